#!/usr/bin/env bash
# Takes the bridge down: its webhooks out of the PBX first, then the resources, keeping the media unless --delete-media is given.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

delete_media=no
skip_webhooks=no
confirmed=no

# Users before what they use. Workflows unsubscribe at the app, which goes next, before it registers webhooks again.
types=(
  Microsoft.Logic/workflows
  Microsoft.Web/sites
  Microsoft.Web/serverFarms
  Microsoft.Web/connections
  Microsoft.Insights/scheduledQueryRules
  Microsoft.Insights/workbooks
  Microsoft.Insights/actionGroups
  Microsoft.Network/privateEndpoints
  Microsoft.Network/privateDnsZones/virtualNetworkLinks
  Microsoft.Network/privateDnsZones
  Microsoft.Network/virtualNetworks
  Microsoft.Network/natGateways
  Microsoft.Network/publicIPAddresses
  Microsoft.Network/networkSecurityGroups
  Microsoft.KeyVault/vaults
  Microsoft.Insights/components
  Microsoft.OperationalInsights/workspaces
  Microsoft.Storage/storageAccounts
  Microsoft.ManagedIdentity/userAssignedIdentities
)

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

# kept TYPE ID: the data account and the identity, unless the media go too.
kept() {
  [[ $delete_media == no ]] || return 1
  [[ $1 == Microsoft.ManagedIdentity/* || ($1 == Microsoft.Storage/* && ${2##*/} == "st${name}d"*) ]]
}

# What belongs to a group and is no resource of it. The role is used for as long as the media stay.
list_rules() {
  ask "the budgets of $group" az consumption budget list --resource-group "$group" --output tsv \
    --query "[?starts_with(name, 'budget-$name-')].name"
  budgets=$answer roles=
  [[ $delete_media == yes ]] || return 0
  ask "the roles of $group" az role definition list --resource-group "$group" --custom-role-only true --output tsv \
    --query "[?starts_with(roleName, 'PBX bridge audio $name-')].name"
  roles=$answer
}

# Found by their tag, since a deployment that failed has no outputs.
list_resources() {
  local type
  ask "the resources of $group" az resource list --resource-group "$group" --output tsv \
    --query "[?tags.bridge=='$name'].[type, id]"
  resources=$answer
  [[ $dry_run == no ]] || resources=$(for type in "${types[@]}"; do printf '%s\t%s\n' "$type" "$type/<name>"; done)
  [[ -n $resources$budgets$roles ]] || die "nothing of the bridge $name is in $group"
  data_storage=$(of_type Microsoft.Storage/storageAccounts | sed -n "s,.*/\(st${name}d[a-z0-9]*\)\$,\1,p") || data_storage=
}

of_type() {
  grep --ignore-case "^$1"$'\t' <<<"$resources"
}

# An app that an earlier run has deleted took its webhooks out before.
delete_webhooks() {
  local app_id
  local stuck="the webhooks are still at the PBX: fix the app, or give --skip-webhooks and delete them in its panel"
  [[ $skip_webhooks == no ]] && app_id=$(of_type Microsoft.Web/sites | cut -f 2) || return 0
  app=${app_id##*/}
  base_url=https://$(az resource show --ids "$app_id" --query properties.defaultHostName --output tsv) ||
    die "$stuck (API, WEB HOOKS)"
  [[ $dry_run == no ]] || base_url='<baseUrl>'
  api DELETE /api/ops/webhooks || die "$stuck (API, WEB HOOKS)"
}

delete_resources() {
  local type id
  for type in "${types[@]}"; do
    while IFS=$'\t' read -r _ id; do
      [[ -z $id ]] || kept "$type" "$id" || az resource delete --ids "$id" --output none ||
        die "${id##*/} is left: run this again to go on from here; a network waits some hours for its app to let go"
    done < <(of_type "$type" || true)
  done
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
  say "Gone. The vault can be recovered for 90 days; infra/deploy.sh does so by itself."
  [[ $delete_media == yes ]] || say "Kept: ${data_storage:-the data account}"
}

main "$@"
