#!/usr/bin/env bash
# Gives the bridge a new key to seal subscriptions under, and drops the old ones when no row is under them.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

secret='subscription-keys'
# The app seals rows with a new key every five minutes.
readonly row_attempts=80

usage() {
  cat <<'USAGE'
Usage: infra/rotateSubscriptionKeys.sh -g GROUP [options]

  -g, --group NAME        resource group of the bridge
  -p, --parameters FILE   parameter file it was deployed with (infra/main.bicepparam)
      --dry-run           print every call in order, make none
  -h, --help              this text

It takes five to ten minutes. Stopped half-way, run it again: it goes on with the key that it made. infra/deploy.sh may
be run between.
USAGE
}

own_option() {
  unknown_option "$1"
}

# read_keys: the keys of the vault, the newest first, and how far a rotation is, which stands beside them in a tag:
# added (the last one is new), sealing (the first one is), dropped (it is the only one), ended. Several keys without
# a tag were put there by hand, and mean sealing.
read_keys() {
  local answer value=
  step=
  answer=$(az keyvault secret show --vault-name "$vault" --name "$secret" --output tsv \
    --query "[value, not_null(tags.rotation, 'ended')]") || return 1
  { read -r value && read -r step; } <<<"$answer" || true
  [[ $dry_run == no ]] || value='<key>' step=ended
  IFS=, read -r -a keys <<<"${value//[[:space:]]/}"
  [[ $step != ended ]] || ((${#keys[@]} < 2)) || step=sealing
}

# store_keys STEP KEY...: unless somebody else has changed them since they were read.
store_keys() {
  local known=$step,${keys[*]} new
  retry 5 "reading $vault" read_keys
  unless_dry test "$step,${keys[*]}" = "$known" ||
    die "$secret was changed meanwhile: does this run twice? Run it again, once"
  new=$(IFS=, && printf '%s' "${*:2}")
  retry 20 "storing $secret" put_secret "$secret" "$new" --tags rotation="$1"
  step=$1 keys=("${@:2}")
}

# key_id KEY: what the app calls it.
key_id() {
  printf 'subscription key %s' "$1" | openssl dgst -sha256 -r | cut -c 1-8
}

# read_rows: reads the id of the key that the app seals with, and how many rows are under each key.
read_rows() {
  api GET /api/ops/status || return 1
  keys_of_app=$(jq .subscriptionKeys <<<"${answer:-null}") && seals=$(jq --raw-output .newest <<<"$keys_of_app")
}

# rows_under KEY: prints their number; nothing where the app does not know the key.
rows_under() {
  jq --raw-output --arg id "$(key_id "$1")" '.keys[$id] // empty' <<<"$keys_of_app"
}

app_knows() {
  read_rows && unless_dry test -n "$(rows_under "$1")"
}

app_seals_with() {
  read_rows && unless_dry test "$seals" = "$(key_id "$1")"
}

# no_row_under KEYS...
no_row_under() {
  local key
  read_rows || return 1
  for key; do
    unless_dry test "$(rows_under "$key")" = 0 || return 1
  done
}

read_again() {
  retry 5 "having the app read its secrets" refresh_secrets
}

# An instance that does not know a key cannot read what another seals with it. So the new one comes last at first, where
# it seals nothing.
add() {
  store_keys added "${keys[@]}" "$(new_fernet_key)"
}

seal() {
  local last=$((${#keys[@]} - 1))
  read_again
  retry 20 "having the app know the new key" app_knows "${keys[last]}"
  store_keys sealing "${keys[last]}" "${keys[@]:0:last}"
}

drop() {
  read_again
  retry 20 "having the app seal with the new key" app_seals_with "${keys[0]}"
  # An instance may be one reading behind the one that answered. From here on none seals with an old key.
  read_again
  retry "$row_attempts" "having the app seal all rows with the new key" no_row_under "${keys[@]:1}"
  store_keys dropped "${keys[0]}"
}

finish() {
  read_again
  retry 20 "having the app seal with the new key" app_seals_with "${keys[0]}"
  retry 5 "noting that the rotation has ended" az keyvault secret set-attributes --vault-name "$vault" \
    --name "$secret" --tags rotation=ended --output none
  [[ $dry_run == yes ]] ||
    say "Subscriptions are sealed under the new key, $(key_id "${keys[0]}"), and no other is left."
}

main() {
  read_arguments "$@"
  check_tools
  check_az
  read_outputs
  retry 5 "reading $vault" read_keys
  ((${#keys[@]} > 0)) || die "$vault has no $secret: run infra/deploy.sh first"
  [[ $step != ended ]] || add
  [[ $step != added ]] || seal
  [[ $step != sealing ]] || drop
  finish
}

main "$@"
