#!/usr/bin/env bash
# Deletes the bridge: first its webhooks at the PBX, then its resources. Without --delete-media it keeps the media.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

usage='Usage: infra/destroy.sh -g GROUP [options]

Without --delete-media it keeps the data account, and the identity with roles on it. The group itself always stays.'
options='      --delete-media      delete events, recordings and voicemails too
      --skip-webhooks     do not have the app delete its webhooks at the PBX
  -y, --yes               do not ask'
delete_media=no skip_webhooks=no yes=no

# list_resources: finds resources by their tag, since a failed deployment has no outputs. Kept media need their account,
# identity and role. Budgets and roles belong to the group but are not among its resources.
list_resources() {
  local kept="/st${name}d[a-z0-9]*\$|/userAssignedIdentities/[^/]*\$"
  ask "the budgets of $group" az consumption budget list --resource-group "$group" --output tsv \
    --query "[?starts_with(name, 'budget-$name-')].name"
  budgets=$answer roles=
  if [[ $delete_media == yes ]]; then
    ask "the roles of $group" az role definition list --resource-group "$group" --custom-role-only true --output tsv \
      --query "[?starts_with(roleName, 'PBX bridge audio $name-')].name"
    roles=$answer
  fi
  ask "the resources of $group" az resource list --resource-group "$group" --output tsv \
    --query "[?tags.bridge=='$name'].id"
  [[ $dry_run == no ]] || answer='<id of each resource>'
  [[ -n $answer$budgets$roles ]] || die "nothing of the bridge $name is in $group"
  data_account=$(sed -n "s,.*/\(st${name}d[a-z0-9]*\)\$,\1,p" <<<"$answer")
  resources=$answer
  [[ $delete_media == yes ]] || resources=$(grep --ignore-case --invert-match -E "$kept" <<<"$resources") || true
  app_id=$(grep --ignore-case '/Microsoft\.Web/sites/' <<<"$resources") || true
}

confirm() {
  local reply word=${data_account:-$name} media="keeps $data_account"
  [[ $yes == no && $dry_run == no ]] || return 0
  [[ -t 0 ]] || die "not confirmed: give --yes"
  [[ $delete_media == no ]] || media="all its recordings"
  read -rp "This deletes the bridge and $media. Type $word to go on: " reply
  [[ $reply == "$word" ]] || die "not confirmed"
}

# delete_webhooks: does nothing without an app, because an earlier run deleted the webhooks before the app.
delete_webhooks() {
  [[ $skip_webhooks == no && ($dry_run == yes || -n $app_id) ]] || return 0
  app=${app_id##*/}
  ask "the address of $app" az resource show --ids "${app_id:-<app_id>}" --query properties.defaultHostName --output tsv
  take base_url
  base_url=https://$base_url
  api DELETE /api/ops/webhooks >/dev/null ||
    die "the webhooks are still at the PBX: fix the app, or give --skip-webhooks and delete them in its panel (API, WEB HOOKS)"
}

# delete PATTERN: deletes the resources whose ids match, and removes them from the list. az deletes in rounds.
delete() {
  local ids=() id
  while IFS= read -r id; do
    [[ -z $id ]] || ids+=("$id")
  done < <(grep --ignore-case "$1" <<<"$resources")
  ((${#ids[@]})) || return 0
  az resource delete --ids "${ids[@]}" --output none ||
    die "something is left: see above, and run this again to go on; a network waits some hours for its app to let go"
  resources=$(grep --ignore-case --invert-match "$1" <<<"$resources") || true
}

main() {
  local id
  begin "$@"
  check_az
  list_resources
  confirm
  delete_webhooks
  # First the workflows, since they unsubscribe at the app, and then the app, which would register its webhooks again.
  delete '/Microsoft\.Logic/workflows/'
  delete '/Microsoft\.Web/sites/'
  delete .
  for id in $budgets; do
    az consumption budget delete --budget-name "$id" --resource-group "$group" --output none ||
      die "$id is left: run this again to go on from here"
  done
  for id in $roles; do
    az role definition delete --name "$id" --resource-group "$group" --custom-role-only true --output none ||
      say "The role PBX bridge audio $name is left: delete it in the portal (Access control, Roles)"
  done
  [[ $delete_media == yes || $dry_run == yes ]] || say "Kept: ${data_account:-the data account}"
  conclude "Gone. The vault can be recovered for 90 days; infra/deploy.sh does so by itself."
}

main "$@"
