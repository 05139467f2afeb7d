#!/usr/bin/env bash
# Gives the PBX a new webhook key. The old one opens the receivers too until --finish, so that no event is turned away.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

finish=no

usage() {
  cat <<'USAGE'
Usage: infra/rotateWebhookKey.sh -g GROUP [options]

  -g, --group NAME        resource group of the bridge
  -p, --parameters FILE   parameter file it was deployed with (infra/main.bicepparam)
      --finish            take the old key away: a day later, once the PBX uses the new one
      --dry-run           print every call in order, make none
  -h, --help              this text

Each of the two steps can be run again when it stopped half-way, and infra/deploy.sh may be run between them.
USAGE
}

own_option() {
  case $1 in
    --finish) finish=yes ;;
    *) unknown_option "$1" ;;
  esac
}

# The vault holds the key that the PBX is to use and the one before it, and is the only memory of a rotation: while the
# two differ, one is going on. Everything else follows from them, however often a run is repeated.
start() {
  local new
  retry 5 "reading $vault" read_webhook_keys
  if [[ $dry_run == yes ]] || ! under_way; then
    new=$(new_key)
    # All instances accept the new key before one of them gives it to the PBX.
    store_secret pbx-webhook-key-previous "$new"
    retry 5 "having the app read its secrets" refresh_secrets
    retry 20 "the health check" api GET /api/ops/status
    store_secret pbx-webhook-key-previous "$current"
    store_secret pbx-webhook-key "$new"
    retry 5 "reading $vault" read_webhook_keys
  fi
  register
  if [[ $dry_run == yes ]]; then
    say "Nothing was changed. Both keys would work."
  elif all_renewed; then
    say "Both keys work, and the PBX uses the new one."
  else
    say "Both keys work. The PBX gets the new one with an hourly sync, once the app has read it."
  fi
  say "Run infra/rotateWebhookKey.sh -g $group --finish tomorrow."
}

# under_way: whether the PBX is to use a new key. One that is the later of the two, but stands as the former, is a new
# one that nobody uses yet: a run stopped there, and the next one makes another.
under_way() {
  [[ $current != "$previous" && ! $current_stored < $previous_stored ]]
}

finish() {
  retry 5 "reading $vault" read_webhook_keys
  if [[ $dry_run == yes || $current != "$previous" ]]; then
    [[ $dry_run == yes ]] || under_way ||
      die "the rotation stopped before the PBX had the new key: run this without --finish"
    register
    [[ $dry_run == yes ]] || all_renewed || die "the PBX still uses the old key for some events, so both stay: run this again in an hour"
    store_secret pbx-webhook-key-previous "$current"
  fi
  retry 5 "having the app read its secrets" refresh_secrets
  [[ $dry_run == yes ]] || say "Only the new key works."
}

register() {
  retry 5 "having the app read its secrets" refresh_secrets
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync
}

# all_renewed: true if every webhook that the app holds was made after the key was stored. Of that time only the second
# is known: a webhook made in it may have been made before.
all_renewed() {
  local made
  made=$(jq --raw-output '[.held[].created] | min // ""' <<<"$answer")
  [[ -n $made && ${made:0:19} > ${current_stored:0:19} ]]
}

main() {
  read_arguments "$@"
  check_tools
  check_az
  read_outputs
  if [[ $finish == yes ]]; then
    finish
  else
    start
  fi
}

main "$@"
