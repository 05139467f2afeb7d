# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # names that deploy.sh and azure.sh use and set
# What deploy.sh looks at before it changes anything: each failed check is one line with the fix.

# az has no such call for a name that may be absent, and a user's default output would be no plain word.
check_group() {
  local found
  group_exists=$(az group exists --name "$group" --output tsv)
  group_region=
  [[ $group_exists == true ]] || return 0
  # As Azure spells it: ids are compared with it.
  found=$(az group show --name "$group" --query '[name, location]' --output tsv) || die "$group cannot be read"
  { read -r group && read -r group_region; } <<<"$found"
}

# The data account outlives all else, and says what a deployment cannot change.
check_data_account() {
  local account region sku access
  data_account='' data_closed=false
  if [[ $group_exists == true ]]; then
    account=$(az storage account list --resource-group "$group" --output tsv --query \
      "[?tags.bridge=='$name' && starts_with(name, 'st${name}d')].[name, location, sku.name, publicNetworkAccess]") ||
      die "the storage accounts of $group cannot be listed"
    IFS=$'\t' read -r data_account region sku access <<<"$account" || true
  fi
  region=${region:-$group_region}
  [[ -z $region || $region == "$location" ]] ||
    die "${data_account:-$group} is in $region, and Azure moves nothing: give -l $region, or another group"
  [[ -n $data_account ]] || return 0
  [[ ${access:-} != Disabled ]] || data_closed=true
  check_redundancy "$sku"
}

# check_redundancy SKU: whether copies lie in one zone or in three is changed by a migration of Azure's own only.
check_redundancy() {
  local target wanted
  wanted=$(parameter dataStorageSku)
  case $1 in
    *ZRS) [[ $wanted != *ZRS ]] || return 0 ;;
    *) [[ $wanted == *ZRS ]] || return 0 ;;
  esac
  case $1 in
    *_ZRS) target=Standard_LRS ;;
    *GZRS) target=Standard_GRS ;;
    *GRS) target=Standard_GZRS ;;
    *) target=Standard_ZRS ;;
  esac
  die "$data_account is $1, and no deployment makes it $wanted: run az storage account migration start \
--account-name $data_account --resource-group $group --sku $target --no-wait, and this again when it has ended (days)"
}

# A locked policy refuses to be written again.
check_policy() {
  local state=
  policy_locked=false
  [[ -n $data_account && $(parameter recordingImmutabilityDays) =~ ^[0-9]+$ ]] || return 0
  # No policy is an error too, and the first deployment with one makes it.
  state=$(az storage container immutability-policy show --resource-group "$group" --account-name "$data_account" \
    --container-name recordings --query state --output tsv 2>/dev/null) || state=
  [[ $(lower "$state") != locked ]] || policy_locked=true
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

# may_write TYPE: a query for how many roles may write these; Contributor may do all but that.
may_write() {
  local action ways=
  for action in '*' 'Microsoft.Authorization/*' "Microsoft.Authorization/$1/*" "Microsoft.Authorization/$1/write"; do
    ways+="${ways:+ || }contains(actions, '$action')"
  done
  printf "length(value[?(%s) && !contains(notActions, 'Microsoft.Authorization/*/Write')])" "$ways"
}

check_permissions() {
  local scope=/subscriptions/$subscription counts assign=0 define=0
  [[ $group_exists != true ]] || scope+=/resourceGroups/$group
  counts=$(az rest --method get --output tsv --query "[$(may_write roleAssignments), $(may_write roleDefinitions)]" \
    --url "$scope/providers/Microsoft.Authorization/permissions?api-version=2022-04-01")
  { read -r assign && read -r define; } <<<"$counts" || true
  unless_dry test "${assign:-0}" -gt 0 ||
    die "you may not assign roles in $scope: ask for Owner, or User Access Administrator beside Contributor"
  ! defines_roles || unless_dry test "${define:-0}" -gt 0 ||
    die "you may not define roles in $scope: ask for Owner, or User Access Administrator beside Contributor"
}

defines_roles() {
  grep --quiet --recursive Microsoft.Authorization/roleDefinitions@ "$infra/modules"
}

# The vault is spoken to after minutes, when a sign-in from GitHub could no longer get a token for it: az keeps this one.
check_vault_token() {
  az account get-access-token --scope https://vault.azure.net/.default --query expiresOn --output none ||
    die "there is no token for Key Vault: run az login"
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

# read_choices: what the last deployment was given, so that a choice is made once.
read_choices() {
  local given
  last_email='' last_months=''
  [[ $group_exists == true ]] || return 0
  given=$(az deployment group show --resource-group "$group" --name "bridge-$name" --output tsv --query \
    "properties.parameters.[not_null(alertEmail.value, ''), not_null(retentionMonths.value, '')]" 2>/dev/null) || return 0
  { read -r last_email && read -r last_months; } <<<"$given" || true
}

# check_alerts: nobody runs unwatched by accident. An address of example.com is nobody's.
check_alerts() {
  local address
  [[ $no_alerts == no ]] || {
    alert_email=
    return 0
  }
  for address in "$alert_email" "$(parameter alertEmail)" "$last_email"; do
    [[ -z $address || $address == *@example.* ]] || break
    address=
  done
  if [[ -z $address && $dry_run == no ]]; then
    [[ ! -t 0 ]] || read -rp 'Mail alerts to (an address): ' address
    [[ -n $address ]] || die "nobody would see alerts: give --alert-email ADDRESS, or --no-alerts to run unwatched"
  fi
  alert_email=$address
}

# check_retention: months after which history is deleted; 0 keeps everything.
check_retention() {
  # A file that says it is right; an empty text here passes nothing on.
  has_parameter retentionMonths && [[ -n $months || -z $(given retentionMonths) ]] || return 0
  months=${months:-$last_months}
  if [[ -z $months && -t 0 && $dry_run == no ]]; then
    read -rp 'Months after which history is deleted (0 keeps everything): ' months
  fi
  months=${months:-0}
  [[ $months =~ ^[0-9]+$ ]] || die "--retention-months takes a whole number: 0 keeps everything"
}

has_parameter() {
  grep --quiet "^param $1 " "$infra/main.bicep"
}

# check_keys: whether the app has a key for each receiver of this code, and may register webhooks when it starts.
check_keys() {
  local receiver
  webhooks_ready=false
  [[ $group_exists == true ]] || return 0
  app_id=$(az resource list --resource-group "$group" --resource-type Microsoft.Web/sites --output tsv \
    --query "[?tags.bridge=='$name'].id") || return 0
  [[ -n $app_id ]] || return 0
  app=${app_id##*/}
  for receiver in $(code_receivers); do
    read_function_keys "$receiver" 2>/dev/null || return 0
    [[ -n $first$second ]] || return 0
  done
  webhooks_ready=true
}
