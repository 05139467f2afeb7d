#!/usr/bin/env bash
# Gives the PBX a new webhook key. The old one opens the receivers too until --finish, so that no event is turned away.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

usage='Usage: infra/rotateWebhookKey.sh -g GROUP [options]

Each of the two steps can be run again when it stopped half-way, and infra/deploy.sh may be run between them.'
options='      --finish            take the old key away: a day later, once the PBX uses the new one'
finish=no
current='' current_stored='' previous='' previous_stored=''

# The vault holds the key that the PBX is to use and the one before it, and is the only memory of a rotation: while the
# two differ, one is going on. Everything else follows from them, however often a run is repeated.

# read_keys: both keys, and the time at which each was stored, in UTC, to the second.
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

# under_way: true if the PBX is to use a new key. One that is the later of the two, but stands as the former, is a new
# one that nobody uses yet: a run stopped there, and the next one makes another.
under_way() {
  [[ $current != "$previous" && ! $current_stored < $previous_stored ]]
}

# register: has the app give the key to the PBX, and reads what the app then holds.
register() {
  refresh_secrets
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync --data ''
}

# all_renewed: true if every webhook that the app holds was made after the key was stored. Of that time only the second
# is known: a webhook made in it may have been made before.
all_renewed() {
  # shellcheck disable=SC2016 # a variable of jq
  jq -e --arg stored "${current_stored:0:19}" '([.held[].created] | min // "")[:19] > $stored' <<<"$answer" >/dev/null
}

start() {
  local new
  if [[ $dry_run == yes ]] || ! under_way; then
    new=$(new_key)
    # All instances accept the new key before one of them gives it to the PBX.
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
