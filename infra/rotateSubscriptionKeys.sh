#!/usr/bin/env bash
# Rotates the key that encrypts subscriptions, and drops the old keys once no row is encrypted with them.
# shellcheck disable=SC2016 # variables of jq
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

usage='Usage: infra/rotateSubscriptionKeys.sh -g GROUP [options]

It takes five to ten minutes. If it stops, run it again: it goes on with the same new key. infra/deploy.sh may be run in
between.'
options=''
readonly secret=subscription-keys

# read_keys: reads the keys of the vault, the newest first, and the step of a rotation from the secret's tag: added (the
# new key is the last one), sealing (it is the first one), dropped (it is the only one), ended. Several keys without a
# tag were stored by hand, and mean sealing.
read_keys() {
  local value
  retry 5 "reading $secret" az keyvault secret show --vault-name "$vault" --name "$secret" --output tsv \
    --query "[value, not_null(tags.rotation, 'ended')]"
  take value step
  [[ $dry_run == no ]] || step=ended
  IFS=, read -r -a keys <<<"${value//[[:space:]]/}"
  [[ $step != ended ]] || ((${#keys[@]} < 2)) || step=sealing
}

# store_keys STEP KEY...: stores the keys, unless they were changed since they were read.
store_keys() {
  local known=$step,${keys[*]} new
  read_keys
  unless_dry test "$step,${keys[*]}" = "$known" ||
    die "$secret was changed meanwhile: does this run twice? Run it again, once"
  new=$(IFS=, && printf '%s' "${*:2}")
  store_secret "$secret" "$new" --tags rotation="$1"
  step=$1 keys=("${@:2}")
}

# key_id KEY: prints the app's id of a key.
key_id() {
  printf 'subscription key %s' "$1" | openssl dgst -sha256 -r | cut -c 1-8
}

# app_says FILTER KEY: true if .subscriptionKeys of the app's status passes a filter of jq, where $id is the key's id.
app_says() {
  local answer
  answer=$(api GET /api/ops/status) || return 1
  unless_dry jq --exit-status --arg id "$(key_id "$2")" ".subscriptionKeys | $1" <<<"$answer" >/dev/null
}

# seal: makes the new key the first one, once the app knows it. Until then it is the last one, which encrypts nothing,
# because an instance without the key could not read rows that another encrypts with it.
seal() {
  refresh_secrets
  retry 20 "having the app know the new key" app_says '.keys | has($id)' "${keys[@]: -1}"
  store_keys sealing "${keys[@]: -1}" "${keys[@]:0:${#keys[@]}-1}"
}

seal_with_first() {
  refresh_secrets
  retry 20 "having the app seal with the new key" app_says '.newest == $id' "${keys[0]}"
}

drop() {
  local key
  seal_with_first
  # Another instance may have read the secrets before the one that answered. After this none uses an old key.
  refresh_secrets
  # The app encrypts rows again every five minutes.
  for key in "${keys[@]:1}"; do
    retry 80 "having the app seal all rows with the new key" app_says '.keys[$id] == 0' "$key"
  done
  store_keys dropped "${keys[0]}"
}

main() {
  begin "$@"
  check_az
  read_outputs
  read_keys
  ((${#keys[@]} > 0)) || die "$vault has no $secret: run infra/deploy.sh first"
  [[ $step != ended ]] || store_keys added "${keys[@]}" "$(new_fernet_key)"
  [[ $step != added ]] || seal
  [[ $step != sealing ]] || drop
  seal_with_first
  retry 5 "noting that the rotation has ended" az keyvault secret set-attributes --vault-name "$vault" \
    --name "$secret" --tags rotation=ended --output none
  conclude "Subscriptions are sealed under the new key, $(key_id "${keys[0]}"), and no other is left."
}

main "$@"
