# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # names that deploy.sh and azure.sh use and set
# Checks of deploy.sh before it changes anything. A failed one is one line with the fix.

# Values that the app would refuse at its start: a text in quotes, a placeholder or a reference that nothing has filled
# in, and what is no country.
check_settings() {
  local wrong
  wrong=$(jq --raw-output '
    def unfilled: test("^[\"\u0027].*[\"\u0027]$|[$][({]|#[{]|^<.*>$|^(null|undefined)$|^@Microsoft[.](KeyVault|AppConfiguration)"; "i");
    def country: test("^[A-Z]{2}$") and (IN("UK", "EL", "EU") | not);
    (.given | to_entries[] | select([.value | .. | strings] | any(unfilled)) | .key
      + " is a placeholder or a text in quotes: write the value itself"),
    (.all | (.defaultRegion, .dialCountries[]) | select(country | not)
      + " is no country code: write two capital letters, such as LV (GB is the United Kingdom, GR is Greece)")' \
    "$scratch/parameters")
  [[ -z $wrong ]] || die "$parameters: ${wrong//$'\n'/; }"
}

# check_group: the group in Azure's own spelling, since ids are compared with it; nothing where there is none.
check_group() {
  ask "the group $group" unless_absent az group show --name "$group" --query name --output tsv
  group_there=$answer
  group=${answer:-$group}
}

check_providers() {
  local missing needed=(
    Microsoft.App Microsoft.Insights Microsoft.KeyVault Microsoft.ManagedIdentity
    Microsoft.OperationalInsights Microsoft.Storage Microsoft.Web
  )
  ! is_on deployNetwork || needed+=(Microsoft.Network)
  ! is_on deployLogicApps || needed+=(Microsoft.Logic)
  ask_if_allowed "the resource providers" az provider list --output tsv \
    --query "[?registrationState!='Registered'].namespace" || {
    say "You may not see the subscription's resource providers; these have to be registered: ${needed[*]}"
    return 0
  }
  missing=$(printf '%s\n' "${needed[@]}" | grep --ignore-case --line-regexp --max-count 1 --fixed-strings "$answer") || true
  [[ -z $missing ]] || die "$missing is not registered: run az provider register --wait --namespace $missing"
}

# The data account outlives everything else. Neither its region nor its zones can be changed by a deployment.
check_data_account() {
  local account region sku access wanted target
  data_closed=false policy_locked=false
  [[ -n $group_there ]] || return 0
  ask "the storage accounts of $group" az storage account list --resource-group "$group" --output tsv --query \
    "[?tags.bridge=='$name' && starts_with(name, 'st${name}d')].[name, location, sku.name, publicNetworkAccess]"
  [[ -n $answer ]] || return 0
  IFS=$'\t' read -r account region sku access <<<"$answer"
  [[ $region == "$location" ]] ||
    die "$account is in $region, and Azure moves nothing: give -l $region, or another group"
  wanted=$(value_of dataStorageSku)
  case $sku in
    *GZRS) target=Standard_GRS ;;
    *ZRS) target=Standard_LRS ;;
    *GRS) target=Standard_GZRS ;;
    *) target=Standard_ZRS ;;
  esac
  [[ ${sku//[^Z]/} == "${wanted//[^Z]/}" ]] ||
    die "$account is $sku, and no deployment makes it $wanted: run az storage account migration start --account-name \
$account --resource-group $group --sku $target --no-wait, and this again when it has ended (days)"
  [[ $access != Disabled ]] || data_closed=true
  [[ -n $(value_of recordingImmutabilityDays) ]] || return 0
  # A locked policy refuses to be written again. Asked for the policy alone, Azure calls it an error that there is none.
  ask "the policy of recordings" unless_absent az storage container-rm show --resource-group "$group" \
    --storage-account "$account" --name recordings --query immutabilityPolicy.state --output tsv
  ! grep --quiet --ignore-case --line-regexp locked <<<"$answer" || policy_locked=true
}

check_python() {
  ask "what $location offers on Flex Consumption" az functionapp list-flexconsumption-runtimes --location "$location" \
    --runtime python --query '[].version' --output tsv
  unless_dry grep --quiet --line-regexp --fixed-strings "$python_version" <<<"$answer" ||
    die "$location does not offer Python $python_version on Flex Consumption: choose another region or pythonVersion"
}

# The template makes a role and assigns roles, which Contributor may not.
check_permissions() {
  local scope=/subscriptions/$subscription
  [[ -z $group_there ]] || scope+=/resourceGroups/$group
  ask "what you may do in $scope" az rest --method get --output json \
    --url "$scope/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
  # shellcheck disable=SC2016 # variables of jq
  unless_dry jq --exit-status '
    def may_write($kind): any(.value[]; (.notActions | index("Microsoft.Authorization/*/Write") | not)
      and any(.actions[]; IN("*", "Microsoft.Authorization/" + ("*", "\($kind)/*", "\($kind)/write"))));
    may_write("roleAssignments") and may_write("roleDefinitions")' <<<"$answer" >/dev/null ||
    die "you may not define and assign roles in $scope: ask for Owner, or User Access Administrator beside Contributor"
}

# check_secrets: asks for every key that a person has to bring, before anything is made. A vault that is there has its
# secrets already, and so has one that will be recovered; placeholders count as missing.
check_secrets() {
  local names=
  # A vault outlives its resource group by ninety days, and its name with it.
  ask_if_allowed "the deleted vaults" az keyvault list-deleted --resource-type vault --output tsv --query \
    "[?properties.tags.bridge=='$name'].[name, properties.vaultId]" ||
    say "You may not see the subscription's deleted vaults: one of this bridge would have to be recovered by hand"
  deleted_vault=$(grep --ignore-case --fixed-strings "/resourceGroups/$group/" <<<"$answer" | cut -f 1) || true
  if [[ -n $deleted_vault ]]; then
    names=$'pbx-api-key\ncrm-authorization'
  elif [[ -n $group_there ]]; then
    ask "the vaults of $group" az resource list --resource-group "$group" --resource-type Microsoft.KeyVault/vaults \
      --output tsv --query "[?tags.bridge=='$name'].id"
    [[ -z $answer ]] || ask "the names of the secrets" az rest --method get --output tsv \
      --url "$answer/secrets?api-version=2025-05-01" --query "value[?properties.contentType!='placeholder'].name"
    names=$answer
  fi
  bring pbx-api-key PBX_API_KEY 'key from the PBX panel (API)' "$names"
  ! is_on deployLogicApps || ! is_on newContactCrm ||
    bring crm-authorization CRM_AUTHORIZATION 'Authorization header for the CRM' "$names"
}

# bring SECRET VARIABLE TITLE NAMES: asks for a value that neither the vault nor the environment has.
bring() {
  [[ -z ${!2:-} ]] && ! grep --quiet --line-regexp "$1" <<<"$4" || return 0
  prompt "$3: " -s || die "no $3: put it into $2 and run this again"
  printf -v "$2" %s "$reply"
}

# prompt QUESTION OPTIONS...: sets reply to what somebody types. 1 where nobody does; a dry run does not ask.
prompt() {
  reply=
  [[ -t 0 ]] || return 1
  [[ $dry_run == no ]] || return 0
  read -rp "$1" "${@:2}" reply
  # A hidden answer leaves the line open.
  (($# == 1)) || say
  [[ -n $reply ]]
}

# read_choices: reads what the last deployment was given, so that a choice is made once.
read_choices() {
  last_email='' last_months=''
  [[ -n $group_there ]] || return 0
  ask "the last deployment" unless_absent az deployment group show --resource-group "$group" --name "bridge-$name" \
    --output tsv --query "properties.parameters.[not_null(alertEmail.value, ''), not_null(retentionMonths.value, '')]"
  take last_email last_months
}

# check_alerts: nobody runs unwatched by accident. An address of example.com is nobody's.
check_alerts() {
  local address
  for address in "$alert_email" "$(value_of alertEmail)" "$last_email"; do
    [[ -z $address || $address == *@example.* ]] || break
    address=
  done
  alert_email=
  [[ $no_alerts == no ]] || return 0
  [[ -n $address ]] || prompt 'Mail alerts to (an address): ' ||
    die "nobody would see alerts: give --alert-email ADDRESS, or --no-alerts to run unwatched"
  alert_email=${address:-$reply}
}

# check_retention: months after which history is deleted; 0 keeps everything. One that the file says is right.
check_retention() {
  if [[ -z $retention_months ]]; then
    jq --exit-status '.given | has("retentionMonths") | not' "$scratch/parameters" >/dev/null || return 0
    reply=$last_months
    [[ -n $reply ]] || prompt 'Months after which history is deleted (0 keeps everything): ' || true
    retention_months=${reply:-0}
  fi
  [[ $retention_months =~ ^[0-9]+$ ]] || die "--retention-months takes a whole number: 0 keeps everything"
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
