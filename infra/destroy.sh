#!/usr/bin/env bash
# Takes the bridge down: its webhooks out of the PBX first, then the resources, keeping the media unless --delete-media is given.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

delete_media=no
skip_webhooks=no
confirmed=no

usage() {
  cat <<'USAGE'
Usage: infra/destroy.sh -g GROUP [options]

  -g, --group NAME        resource group of the bridge
  -p, --parameters FILE   parameter file it was deployed with (infra/main.bicepparam)
      --delete-media      delete events, recordings and voicemails too
      --skip-webhooks     go on without asking the app to take its webhooks out of the PBX
  -y, --yes               do not ask
      --dry-run           print every call in order, make none
  -h, --help              this text

Kept without --delete-media: the data account, and the identity that has its roles. The group itself stays.
USAGE
}

own_option() {
  case $1 in
    --delete-media) delete_media=yes ;;
    --skip-webhooks) skip_webhooks=yes ;;
    -y | --yes) confirmed=yes ;;
    *) unknown_option "$1" ;;
  esac
}

confirm() {
  local answer word=${data_storage:-$name}
  [[ $confirmed == no && $dry_run == no ]] || return 0
  [[ -t 0 ]] || die "not confirmed: give --yes"
  if [[ $delete_media == yes ]]; then
    say "This deletes the bridge and all its recordings. Type $word to go on."
  else
    say "This deletes the bridge and keeps $data_storage. Type $word to go on."
  fi
  read -r answer
  [[ $answer == "$word" ]] || die "not confirmed"
}

# Budgets and roles belong to the group and are no resources of it. The role is used for as long as the media stay.
list_rules() {
  ask "the budgets of $group" az consumption budget list --resource-group "$group" --output tsv \
    --query "[?starts_with(name, 'budget-$name-')].name"
  budgets=$answer roles=
  [[ $delete_media == yes ]] || return 0
  ask "the roles of $group" az role definition list --resource-group "$group" --custom-role-only true --output tsv \
    --query "[?starts_with(roleName, 'PBX bridge audio $name-')].name"
  roles=$answer
}

# The tag finds them also after a deployment that failed, which has no outputs. Media keep their account and identity.
list_resources() {
  local kept
  ask "the resources of $group" az resource list --resource-group "$group" --output tsv \
    --query "[?tags.bridge=='$name'].id"
  [[ $dry_run == no ]] || answer='<id of each resource>'
  resources=$answer
  [[ -n $resources$budgets$roles ]] || die "nothing of the bridge $name is in $group"
  data_storage=$(sed -n "s,.*/\(st${name}d[a-z0-9]*\)\$,\1,p" <<<"$resources")
  kept="/st${name}d[a-z0-9]*\$|/userAssignedIdentities/[^/]*\$"
  [[ $delete_media == yes ]] || resources=$(grep --ignore-case --invert-match -E "$kept" <<<"$resources") || true
  app_id=$(grep --ignore-case '/Microsoft\.Web/sites/' <<<"$resources") || app_id=
}

# An app that an earlier run has deleted took its webhooks out before.
delete_webhooks() {
  local stuck="the webhooks are still at the PBX: fix the app, or give --skip-webhooks and delete them in its panel"
  [[ $skip_webhooks == no && ($dry_run == yes || -n $app_id) ]] || return 0
  app=${app_id##*/}
  base_url=https://$(az resource show --ids "${app_id:-<functionAppId>}" --query properties.defaultHostName --output tsv) ||
    die "$stuck (API, WEB HOOKS)"
  [[ $dry_run == no ]] || base_url='<baseUrl>'
  api DELETE /api/ops/webhooks || die "$stuck (API, WEB HOOKS)"
}

# Workflows unsubscribe at the app, and the app would register its webhooks again: so these two go first. Of many
# resources az deletes in rounds what nothing uses any more.
delete_resources() {
  local ids=()
  mapfile -t ids < <(grep --ignore-case '/Microsoft\.Logic/workflows/' <<<"$resources")
  delete_all "${ids[@]}"
  [[ -z $app_id ]] || delete_all "$app_id"
  mapfile -t ids < <(grep --ignore-case --invert-match -E '/Microsoft\.(Logic/workflows|Web/sites)/|^$' <<<"$resources")
  delete_all "${ids[@]}"
}

# delete_all IDS...
delete_all() {
  (($# == 0)) || az resource delete --ids "$@" --output none ||
    die "something is left: see above, and run this again to go on; a network waits some hours for its app to let go"
}

delete_rules() {
  local id
  for id in $budgets; do
    az consumption budget delete --budget-name "$id" --resource-group "$group" --output none ||
      die "$id is left: run this again to go on from here"
  done
  for id in $roles; do
    az role definition delete --name "$id" --resource-group "$group" --custom-role-only true --output none ||
      say "The role PBX bridge audio $name is left: delete it in the portal (Access control, Roles)"
  done
}

main() {
  read_arguments "$@"
  check_tools
  check_az
  list_rules
  list_resources
  confirm
  delete_webhooks
  delete_resources
  delete_rules
  if [[ $dry_run == yes ]]; then
    say "Nothing was deleted. The calls above would be made."
  else
    say "Gone. The vault can be recovered for 90 days; infra/deploy.sh does so by itself."
    [[ $delete_media == yes ]] || say "Kept: ${data_storage:-the data account}"
  fi
}

main "$@"
