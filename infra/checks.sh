# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # names that deploy.sh and azure.sh use and set
# What deploy.sh looks at before it changes anything: each failed check is one line with the fix.

# az has no such call for a name that may be absent, and a user's default output would be no plain word.
check_group() {
  ask "whether there is a group $group" az group exists --name "$group" --output tsv
  group_exists=$answer group_region=
  [[ $group_exists == true ]] || return 0
  # As Azure spells it: ids are compared with it.
  ask "the group $group" az group show --name "$group" --query '[name, location]' --output tsv
  { read -r group && read -r group_region; } <<<"$answer"
}

# The data account outlives all else, and says what a deployment cannot change.
check_data_account() {
  local region sku access
  data_account='' data_closed=false
  if [[ $group_exists == true ]]; then
    ask "the storage accounts of $group" az storage account list --resource-group "$group" --output tsv --query \
      "[?tags.bridge=='$name' && starts_with(name, 'st${name}d')].[name, location, sku.name, publicNetworkAccess]"
    IFS=$'\t' read -r data_account region sku access <<<"$answer" || true
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
  local target value wanted
  read_parameter dataStorageSku
  wanted=$value
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

# A locked policy refuses to be written again. Asked for the policy alone, Azure calls it an error that there is none.
check_policy() {
  local value
  policy_locked=false
  read_parameter recordingImmutabilityDays
  [[ -n $data_account && $value =~ ^[0-9]+$ ]] || return 0
  ask "the policy of recordings" unless_absent az storage container-rm show --resource-group "$group" \
    --storage-account "$data_account" --name recordings --query immutabilityPolicy.state --output tsv
  [[ $(lower "$answer") != locked ]] || policy_locked=true
}

check_providers() {
  local provider needed=(
    Microsoft.App Microsoft.Insights Microsoft.KeyVault Microsoft.ManagedIdentity
    Microsoft.OperationalInsights Microsoft.Storage Microsoft.Web
  )
  ! is_on deployNetwork || needed+=(Microsoft.Network)
  ! is_on deployLogicApps || needed+=(Microsoft.Logic)
  ask_if_allowed "the resource providers" az provider list --output tsv \
    --query "[?registrationState=='Registered'].namespace" || {
    say "You may not see the subscription's resource providers; these have to be registered: ${needed[*]}"
    return 0
  }
  for provider in "${needed[@]}"; do
    unless_dry grep --quiet --ignore-case --line-regexp --fixed-strings "$provider" <<<"$answer" ||
      die "$provider is not registered: run az provider register --wait --namespace $provider"
  done
}

check_python() {
  ask "what $location offers on Flex Consumption" az functionapp list-flexconsumption-runtimes --location "$location" \
    --runtime python --query '[].version' --output tsv
  unless_dry grep --quiet --line-regexp --fixed-strings "$python_version" <<<"$answer" ||
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
  local scope=/subscriptions/$subscription assign=0 define=0
  [[ $group_exists != true ]] || scope+=/resourceGroups/$group
  ask "what you may do in $scope" az rest --method get --output tsv \
    --query "[$(may_write roleAssignments), $(may_write roleDefinitions)]" \
    --url "$scope/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
  { read -r assign && read -r define; } <<<"$answer" || true
  unless_dry test "${assign:-0}" -gt 0 ||
    die "you may not assign roles in $scope: ask for Owner, or User Access Administrator beside Contributor"
  unless_dry test "${define:-0}" -gt 0 ||
    die "you may not define roles in $scope: ask for Owner, or User Access Administrator beside Contributor"
}

# The vault is spoken to after minutes, when a sign-in from GitHub could no longer get a token for it: az keeps this one.
check_vault_token() {
  az account get-access-token --scope https://vault.azure.net/.default --query expiresOn --output none ||
    die "there is no token for Key Vault: run az login"
}

find_deployer() {
  local user
  ask "who is signed in" az account show --query user.type --output tsv
  deployer_type=User
  [[ $answer != servicePrincipal ]] || deployer_type=ServicePrincipal
  [[ -z $deployer_id ]] || return 0
  if [[ $deployer_type == User ]]; then
    deployer_id=$(az ad signed-in-user show --query id --output tsv) ||
      die "your object id cannot be read: give --deployer-id"
  else
    ask "who is signed in" az account show --query user.name --output tsv
    user=$answer
    deployer_id=$(az ad sp show --id "$user" --query id --output tsv) ||
      die "the object id of $user cannot be read: give --deployer-id"
  fi
  [[ $dry_run == no ]] || deployer_id='<deployerPrincipalId>'
}

# read_choices: what the last deployment was given, so that a choice is made once, and whether it left webhooks ready.
read_choices() {
  last_email='' last_months='' deployed_ready=
  [[ $group_exists == true ]] || return 0
  ask "the last deployment" unless_absent az deployment group show --resource-group "$group" --name "bridge-$name" \
    --output tsv --query "properties.parameters.[not_null(alertEmail.value, ''), not_null(retentionMonths.value, ''), \
not_null(webhooksReady.value, '')]"
  { read -r last_email && read -r last_months && read -r deployed_ready; } <<<"$answer" || true
}

# check_alerts: nobody runs unwatched by accident. An address of example.com is nobody's.
check_alerts() {
  local address value=
  [[ $no_alerts == no ]] || {
    alert_email=
    return 0
  }
  [[ -n $alert_email ]] || read_parameter alertEmail
  for address in "$alert_email" "$value" "$last_email"; do
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
  [[ -n $months ]] || ! is_given retentionMonths || return 0
  months=${months:-$last_months}
  if [[ -z $months && -t 0 && $dry_run == no ]]; then
    read -rp 'Months after which history is deleted (0 keeps everything): ' months
  fi
  months=${months:-0}
  [[ $months =~ ^[0-9]+$ ]] || die "--retention-months takes a whole number: 0 keeps everything"
}

# check_workflows: what they are chosen by is read late, and said now where it cannot be.
check_workflows() {
  local file
  is_on deployLogicApps || return 0
  for file in "$infra"/workflows/*.json; do
    is_on "$(basename "$file" .json)" || true
  done
}

# check_keys: whether the app has a key for each receiver of this code, and may register webhooks when it starts. Where
# the app does not answer at all, a deployment may be what it needs.
check_keys() {
  webhooks_ready=false
  [[ $group_exists == true ]] || return 0
  ask "the apps of $group" az resource list --resource-group "$group" --resource-type Microsoft.Web/sites \
    --output tsv --query "[?tags.bridge=='$name'].id"
  [[ -n $answer ]] || return 0
  app_id=$answer app=${answer##*/}
  attempt 5 "reading the keys of the receivers" read_readiness ||
    say "The receivers' keys cannot be read: webhooks are registered once they are there."
}

# read_readiness: sets webhooks_ready, and fails only where that cannot be known.
read_readiness() {
  local receiver
  list_receivers || return 1
  for receiver in $(code_receivers); do
    listed "$receiver" || return 0
    read_function_keys "$receiver" || return 1
    [[ -n $first$second ]] || return 0
  done
  webhooks_ready=true
}
