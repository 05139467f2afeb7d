#!/usr/bin/env bash
# Deploys the bridge: infrastructure, secrets, code, keys, webhooks. Run again, it goes on where it stopped.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

location=
what_if=no
deployer_id=

usage() {
  cat <<'USAGE'
Usage: infra/deploy.sh -g GROUP -l REGION [options]

  -g, --group NAME        resource group, made when it does not exist
  -l, --location REGION   region of all resources
  -p, --parameters FILE   parameter file (infra/main.bicepparam)
      --deployer-id ID    object id of who is signed in, where the directory may not be read
      --what-if           show what would change in Azure, change nothing
      --dry-run           print every call in order, make none
  -h, --help              this text

PBX_API_KEY in the environment is the key from the PBX's panel. Without it the key that is in the vault stays,
and where there is none it is asked for.
USAGE
}

own_option() {
  case $1 in
    -l | --location) needs_value "$@" && location=$2 && used=2 ;;
    --deployer-id) needs_value "$@" && deployer_id=$2 && used=2 ;;
    --what-if) what_if=yes ;;
    *) unknown_option "$1" ;;
  esac
}

check_providers() {
  local provider registered needed=(
    Microsoft.App Microsoft.Insights Microsoft.KeyVault Microsoft.ManagedIdentity
    Microsoft.OperationalInsights Microsoft.Storage Microsoft.Web
  )
  [[ $(parameter deployNetwork) != true ]] || needed+=(Microsoft.Network)
  [[ $(parameter deployLogicApps) != true ]] || needed+=(Microsoft.Logic)
  registered=$(az provider list --query "[?registrationState=='Registered'].namespace" --output tsv)
  for provider in "${needed[@]}"; do
    unless_dry grep --quiet --ignore-case --line-regexp --fixed-strings "$provider" <<<"$registered" ||
      die "$provider is not registered: run az provider register --wait --namespace $provider"
  done
}

check_python() {
  local versions
  versions=$(az functionapp list-flexconsumption-runtimes --location "$location" --runtime python \
    --query '[].version' --output tsv) || versions=
  unless_dry grep --quiet --line-regexp --fixed-strings "$python_version" <<<"$versions" ||
    die "$location does not offer Python $python_version on Flex Consumption: choose another region or pythonVersion"
}

# Roles that may write role assignments say so in one of these ways; Contributor may do all but that.
readonly may_assign="length(value[?(contains(actions, '*') || contains(actions, 'Microsoft.Authorization/*') || \
contains(actions, 'Microsoft.Authorization/roleAssignments/*') || \
contains(actions, 'Microsoft.Authorization/roleAssignments/write')) && \
!contains(notActions, 'Microsoft.Authorization/*/Write')])"

check_permissions() {
  local scope=/subscriptions/$subscription may
  [[ $group_exists != true ]] || scope+=/resourceGroups/$group
  may=$(az rest --method get --output tsv --query "$may_assign" \
    --url "$scope/providers/Microsoft.Authorization/permissions?api-version=2022-04-01")
  unless_dry test "${may:-0}" -gt 0 ||
    die "you may not assign roles in $scope: ask for Owner, or Role Based Access Control Administrator beside Contributor"
}

find_deployer() {
  local type user
  type=$(az account show --query user.type --output tsv)
  deployer_type=User
  [[ $type != servicePrincipal ]] || deployer_type=ServicePrincipal
  [[ -z $deployer_id ]] || return 0
  if [[ $deployer_type == User ]]; then
    deployer_id=$(az ad signed-in-user show --query id --output tsv) ||
      die "your object id cannot be read: give --deployer-id"
  else
    user=$(az account show --query user.name --output tsv)
    deployer_id=$(az ad sp show --id "$user" --query id --output tsv) ||
      die "the object id of $user cannot be read: give --deployer-id"
  fi
  [[ $dry_run == no ]] || deployer_id='<deployerPrincipalId>'
}

# deployment VERB WORKFLOWS: creates, or asks what would change; workflows need a running app.
deployment() {
  az deployment group "$1" --resource-group "$group" --name "bridge-$name" --parameters "$parameters" \
    --parameters "location=$location" --parameters "deployerPrincipalId=$deployer_id" \
    --parameters "deployerPrincipalType=$deployer_type" --parameters "deployLogicApps=$2" "${@:3}"
}

make_group() {
  [[ $group_exists == true ]] || az group create --name "$group" --location "$location" --output none
}

# A vault outlives its resource group by ninety days, and its name with it.
recover_vault() {
  local deleted
  # Who may not list deleted vaults has none to recover; the deployment says so otherwise.
  deleted=$(az keyvault list-deleted --resource-type vault --output tsv --query \
    "[?properties.tags.bridge=='$name' && contains(properties.vaultId, '/resourceGroups/$group/')].name") || deleted=
  [[ -z $deleted ]] || az keyvault recover --name "$deleted" --output none
}

list_secrets() {
  secrets=$(az keyvault secret list --vault-name "$vault" --query '[].name' --output tsv)
}

has_secret() {
  [[ $dry_run == no ]] && grep --quiet --line-regexp --fixed-strings "$1" <<<"$secrets"
}

store_pbx_key() {
  local key=${PBX_API_KEY:-}
  if has_secret pbx-api-key; then
    [[ -n $key && $key != "$(secret_value pbx-api-key)" ]] || return 0
  elif [[ -z $key && $dry_run == no ]]; then
    [[ -t 0 ]] || die "no PBX key: put it into PBX_API_KEY and run this again"
    read -rsp 'Key from the PBX panel (API): ' key
    say
    [[ -n $key ]] || die "no PBX key: put it into PBX_API_KEY and run this again"
  fi
  printf '%s' "$key" | put_secret pbx-api-key
  secrets_changed=yes
}

store_secrets() {
  local secret
  secrets_changed=no
  retry 40 "reading $vault" list_secrets
  store_pbx_key
  for secret in pbx-webhook-key logicapps-key; do
    has_secret "$secret" || {
      new_key | put_secret "$secret"
      secrets_changed=yes
    }
  done
  [[ $secrets_changed == no ]] || refresh_secrets
}

# pack ZIP: what Azure needs of the tree, which is what .funcignore leaves of it. Prints a hash of it.
pack() {
  local list=$1.list
  (
    cd "$infra/.."
    find function_app.py host.json requirements.txt functions shared -type f \
      ! -path '*/__pycache__/*' | LC_ALL=C sort >"$list"
    zip -q -X -@ "$1" <"$list"
    { printf '%s\n' "$python_version" && cat "$list" && tr '\n' '\0' <"$list" | xargs -0 cat; } |
      openssl dgst -sha256 -r | cut -c 1-64
  )
}

# The hash of the running code is a tag of the group, so that the same code is not deployed twice.
deploy_code() {
  local folder hash group_id=/subscriptions/$subscription/resourceGroups/$group running
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$folder'" EXIT
  hash=$(pack "$folder/app.zip")
  running=$(az tag list --resource-id "$group_id" --query "properties.tags.\"code-$name\"" --output tsv)
  # A tag outlives an app that was deleted, by whatever hand.
  if [[ $running == "$hash" ]] && all_listed; then
    say "Code: unchanged"
    return
  fi
  retry 5 "deploying the code" az functionapp deployment source config-zip --resource-group "$group" --name "$app" \
    --src "$folder/app.zip" --build-remote true --timeout 900 --output none
  az tag update --resource-id "$group_id" --operation merge --tags "code-$name=$hash" --output none
}

all_listed() {
  local listed receiver
  listed=$(az functionapp function list --resource-group "$group" --name "$app" --query '[].name' --output tsv)
  for receiver in "${receivers[@]}"; do
    unless_dry grep --quiet --line-regexp --fixed-strings "$app/$receiver" <<<"$listed" || return 1
  done
}

# The host that keeps the keys may be starting still; each step tells of its failure, for retry to see.
set_keys() {
  local key current receiver
  key=$(secret_value pbx-webhook-key) || return 1
  for receiver in "${receivers[@]}"; do
    current=$(az functionapp function keys list --resource-group "$group" --name "$app" \
      --function-name "$receiver" --query pbx --output tsv) || return 1
    if [[ -z $current ]]; then
      printf '%s' "$key" | put_function_key "$receiver" pbx || return 1
    elif [[ $current != "$key" ]]; then
      say "$receiver keeps its key until the rotation is finished: run infra/rotateWebhookKey.sh --finish"
    fi
  done
  key=$(secret_value logicapps-key) || return 1
  current=$(az functionapp keys list --resource-group "$group" --name "$app" --query functionKeys.logicapps \
    --output tsv) || return 1
  [[ $dry_run == no && $current == "$key" ]] || printf '%s' "$key" |
    az functionapp keys set --resource-group "$group" --name "$app" --key-type functionKeys \
      --key-name logicapps --key-value @- --output none || return 1
}

report() {
  say
  say "Receivers  $base_url/api/events/{Event}, registered at the PBX"
  say "API        $base_url/api/v2, header x-functions-key"
  say "Swagger    $base_url/api/swagger.json"
  say "Keys       vault $vault: pbx-api-key, pbx-webhook-key, logicapps-key (the one for the API)"
  if [[ -n $outbound_ip ]]; then
    say "IP list    $outbound_ip/32 for the API key in the PBX's panel"
  else
    say "IP list    0.0.0.0/0 for the API key in the PBX's panel; deployNetwork = true makes it one address"
  fi
}

main() {
  read_arguments "$@"
  [[ -n $location ]] || die "no region: give -l REGION"
  python_version=$(parameter pythonVersion)
  check_tools
  check_az
  group_exists=$(az group exists --name "$group")
  check_providers
  check_python
  check_permissions
  find_deployer

  if [[ $what_if == yes ]]; then
    [[ $dry_run == yes || $group_exists == true ]] ||
      die "there is no group $group to compare with: run az group create --name $group --location $location"
    deployment what-if false
    return
  fi

  say "Infrastructure"
  make_group
  recover_vault
  deployment create false --output none
  read_outputs
  say "Secrets"
  store_secrets
  say "Code"
  deploy_code
  retry 20 "listing the functions" all_listed
  say "Keys"
  retry 8 "setting the keys" set_keys
  say "Webhooks"
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync
  retry 20 "the health check" api GET /api/ops/status
  if [[ $(parameter deployLogicApps) == true ]]; then
    say "Workflows"
    deployment create true --output none
  fi
  report
}

main "$@"
