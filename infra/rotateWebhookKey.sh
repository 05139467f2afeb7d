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
      --finish            take the old key away: a day later, when every instance has read the new one
      --dry-run           print every call in order, make none
  -h, --help              this text

Each of the two steps can be run again when it stopped half-way.
USAGE
}

own_option() {
  case $1 in
    --finish) finish=yes ;;
    *) unknown_option "$1" ;;
  esac
}

# put_on_all NAME: gives the ten receivers the key of the vault under a name.
put_on_all() {
  local key receiver
  key=$(secret_value pbx-webhook-key)
  for receiver in "${receivers[@]}"; do
    printf '%s' "$key" | put_function_key "$receiver" "$1"
  done
}

# The vault gets a new key only when the receivers have the one it holds: a second run goes on with the first one's.
start() {
  local current
  current=$(az functionapp function keys list --resource-group "$group" --name "$app" \
    --function-name "${receivers[0]}" --query pbx --output tsv)
  if [[ $dry_run == yes || $current == "$(secret_value pbx-webhook-key)" ]]; then
    new_key | put_secret pbx-webhook-key
  fi
  put_on_all pbx-next
  refresh_secrets
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync
  say "Both keys work. The PBX gets the new one now, at the latest with the hourly sync after the app has read it."
  say "Run infra/rotateWebhookKey.sh -g $group --finish tomorrow."
}

finish() {
  local receiver
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync
  put_on_all pbx
  for receiver in "${receivers[@]}"; do
    az functionapp function keys delete --resource-group "$group" --name "$app" --function-name "$receiver" \
      --key-name pbx-next --output none
  done
  say "Only the new key works."
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
