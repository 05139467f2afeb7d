# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # names that deploy.sh and azure.sh use and set
# Checks of deploy.sh before it changes anything. A failed one is one line with the fix.

# az has no such call for a name that may be absent, and a user's default output would be no plain word.
check_group() {
  ask "whether there is a group $group" az group exists --name "$group" --output tsv
  group_exists=$answer
  [[ $group_exists == true ]] || return 0
  # In Azure's own spelling: ids are compared with it.
  ask "the group $group" az group show --name "$group" --query name --output tsv
  [[ $dry_run == yes ]] || group=$answer
}

# The data account outlives everything else. Neither its region nor its zones can be changed by a deployment.
check_data_account() {
  local region sku access
  data_account='' data_closed=false
  if [[ $group_exists == true ]]; then
    ask "the storage accounts of $group" az storage account list --resource-group "$group" --output tsv --query \
      "[?tags.bridge=='$name' && starts_with(name, 'st${name}d')].[name, location, sku.name, publicNetworkAccess]"
    IFS=$'\t' read -r data_account region sku access <<<"$answer" || true
  fi
  [[ -n $data_account ]] || return 0
  [[ $region == "$location" ]] ||
    die "$data_account is in $region, and Azure moves nothing: give -l $region, or another group"
  [[ ${access:-} != Disabled ]] || data_closed=true
  check_redundancy "$sku"
}

# check_redundancy SKU: only a migration by Azure itself changes between one zone and three.
check_redundancy() {
  local target wanted
  wanted=$(value_of dataStorageSku)
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
  policy_locked=false
  [[ -n $data_account && -n $(value_of recordingImmutabilityDays) ]] || return 0
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

# may_write TYPE: prints a query that counts the roles which may write these. Contributor may not.
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

# A sign-in from GitHub ends before the vault is used, minutes later: az keeps this token until then.
check_vault_token() {
  az account get-access-token --scope https://vault.azure.net/.default --query expiresOn --output none ||
    die "there is no token for Key Vault: run az login"
}

# check_settings: values that the app would refuse at its start. A text in quotes, a placeholder or a reference that
# nothing has filled in is no setting.
check_settings() {
  local bad country
  bad=$(jq --raw-output 'to_entries[] | select(.key as $name | [.value | .. | strings] | any(
    test("^[\"\u0027].*[\"\u0027]$|[$][({]|#[{]|^<.*>$|^(null|undefined)$|^@Microsoft[.](KeyVault|AppConfiguration)"; "i")))
    | .key' "$scratch/given")
  [[ -z $bad ]] || die "${bad//$'\n'/, } in $parameters is a placeholder or a text in quotes: write the value itself"
  for country in $(value_of defaultRegion) $(jq --raw-output '.dialCountries[]?' "$scratch/parameters"); do
    case $country in
      UK) die "UK is no country code in $parameters: write GB" ;;
      EL) die "EL is no country code in $parameters: write GR" ;;
      EU) die "EU is no country in $parameters: name the countries, such as LV,LT,EE" ;;
      [A-Z][A-Z]) ;;
      *) die "$country is no country code in $parameters: write two capital letters, such as LV" ;;
    esac
  done
}

# check_secrets: asks for every key that a person has to bring, before anything is made. A vault that is there has its
# secrets already, and so has one that will be recovered; placeholders count as missing.
check_secrets() {
  local vault_id='' names=''
  if [[ $group_exists == true ]]; then
    ask "the vaults of $group" az resource list --resource-group "$group" --resource-type Microsoft.KeyVault/vaults \
      --output tsv --query "[?tags.bridge=='$name'].id"
    vault_id=$answer
  fi
  if [[ -n $vault_id ]]; then
    ask "the names of the secrets" az rest --method get --url "$vault_id/secrets?api-version=2025-05-01" \
      --output tsv --query "value[?properties.contentType!='placeholder'].name"
    names=$answer
  fi
  find_deleted_vault
  [[ -z $deleted_vault ]] || names+=$'\n'pbx-api-key$'\n'crm-authorization
  bring pbx-api-key PBX_API_KEY 'key from the PBX panel (API)' "$names"
  ! is_on deployLogicApps || ! is_on newContactCrm ||
    bring crm-authorization CRM_AUTHORIZATION 'Authorization header for the CRM' "$names"
}

# bring SECRET VARIABLE TITLE NAMES: asks for a value that neither the vault nor the environment has.
bring() {
  local value=${!2:-}
  ! grep --quiet --line-regexp "$1" <<<"$4" || return 0
  if [[ -z $value && -t 0 && $dry_run == no ]]; then
    read -rsp "$3: " value && say
  fi
  [[ -n $value || (-t 0 && $dry_run == yes) ]] || die "no $3: put it into $2 and run this again"
  printf -v "$2" %s "$value"
}

# find_deleted_vault: a vault outlives its resource group by ninety days, and its name with it.
find_deleted_vault() {
  local deleted id
  deleted_vault=
  ask_if_allowed "the deleted vaults" az keyvault list-deleted --resource-type vault --output tsv --query \
    "[?properties.tags.bridge=='$name'].[name, properties.vaultId]" || {
    say "You may not see the subscription's deleted vaults: one of this bridge would have to be recovered by hand"
    return 0
  }
  while IFS=$'\t' read -r deleted id; do
    [[ $(lower "$id") != *"/resourcegroups/$(lower "$group")/"* ]] || deleted_vault=$deleted
  done <<<"$answer"
}

# read_choices: reads what the last deployment was given, so that a choice is made once.
read_choices() {
  last_email='' last_months=
  [[ $group_exists == true ]] || return 0
  ask "the last deployment" unless_absent az deployment group show --resource-group "$group" --name "bridge-$name" \
    --output tsv --query "properties.parameters.[not_null(alertEmail.value, ''), not_null(retentionMonths.value, '')]"
  { read -r last_email && read -r last_months; } <<<"$answer" || true
}

# check_alerts: nobody runs unwatched by accident. An address of example.com is nobody's.
check_alerts() {
  local address
  [[ $no_alerts == no ]] || {
    alert_email=
    return 0
  }
  for address in "$alert_email" "$(value_of alertEmail)" "$last_email"; do
    [[ -z $address || $address == *@example.* ]] || break
    address=
  done
  if [[ -z $address ]]; then
    [[ ! -t 0 || $dry_run == yes ]] || read -rp 'Mail alerts to (an address): ' address
    [[ -n $address || (-t 0 && $dry_run == yes) ]] ||
      die "nobody would see alerts: give --alert-email ADDRESS, or --no-alerts to run unwatched"
  fi
  alert_email=$address
}

# check_budget: some offers have no Cost Management, and a budget must not fail the deployment there.
check_budget() {
  budget=
  [[ -n $(value_of monthlyBudget) ]] || return 0
  az rest --method get --output none 2>"$scratch/errors" \
    --url "/subscriptions/$subscription/providers/Microsoft.Consumption/budgets?api-version=2024-08-01" || {
    budget=null
    say "No budget is made: this subscription lets nobody read its costs"
  }
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
