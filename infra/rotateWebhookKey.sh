#!/usr/bin/env bash
# Gives the PBX a new webhook key. The receivers also accept the old key until --finish, so that no event is refused.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

usage='Usage: infra/rotateWebhookKey.sh -g GROUP [options]

If one of the two steps stops, run it again. infra/deploy.sh may be run between them.'
options='      --finish            drop the old key, a day later, once the PBX uses the new one'
finish=no
current='' current_stored='' previous='' previous_stored=''

# The vault has the current and the previous key of the PBX. While they differ, a rotation is under way. No other state
# is kept, so that every run can be repeated.

# read_keys: reads both keys, and the time at which each was stored, in UTC, to the second.
read_keys() {
  read_key pbx-webhook-key
  take current current_stored
  read_key pbx-webhook-key-previous
  take previous previous_stored
}

read_key() {
  retry 5 "reading $1" az keyvault secret show --vault-name "$vault" --name "$1" \
    --query '[value, attributes.updated]' --output tsv
}

# under_way: true if the current key is a new one for the PBX. If the previous key was stored later than the current
# one, it is a new key that is not in use, because a run stopped there; the next run makes another.
under_way() {
  [[ $current != "$previous" && ! $current_stored < $previous_stored ]]
}

# register: has the app register its webhooks with the current key, and sets answer to its report.
register() {
  refresh_secrets
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync --data ''
}

# all_renewed: true if every webhook was made after the key was stored. That time is known to the second, so a webhook
# of the same second counts as old.
all_renewed() {
  # shellcheck disable=SC2016 # a variable of jq
  jq -e --arg stored "${current_stored:0:19}" '([.held[].created] | min // "")[:19] > $stored' <<<"$answer" >/dev/null
}

start() {
  local new
  if [[ $dry_run == yes ]] || ! under_way; then
    new=$(new_key)
    # All instances have to accept the new key before one of them gives it to the PBX.
    store_secret pbx-webhook-key-previous "$new"
    refresh_secrets
    retry 20 "the health check" api GET /api/ops/status
    store_secret pbx-webhook-key-previous "$current"
    store_secret pbx-webhook-key "$new"
    read_keys
  fi
  register
  unless_dry all_renewed || say "The PBX gets the new key with an hourly sync, once the app has read it."
  conclude "Both keys work. Run this with --finish tomorrow."
}

finish() {
  if [[ $current != "$previous" ]]; then
    unless_dry under_way || die "the rotation stopped before the PBX had the new key: run this without --finish"
    register
    unless_dry all_renewed ||
      die "the PBX still uses the old key for some events, so both stay: run this again in an hour"
    store_secret pbx-webhook-key-previous "$current"
  fi
  refresh_secrets
  conclude "Only the new key works."
}

main() {
  begin "$@"
  check_az
  read_outputs
  read_keys
  if [[ $finish == yes ]]; then
    finish
  else
    start
  fi
}

main "$@"
