# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with deploy.sh and azure.sh
# Checks of deploy.sh before it changes anything. A failed check prints one line with the fix.

# check_settings: refuses values that would stop the app at its start: text in quotes, placeholders and references that
# were not filled in, and unknown countries.
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

# check_group: sets group_there to the group's name, or to nothing, and group to Azure's spelling, which ids contain.
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

# check_data_account: a deployment can change neither the region nor the zones of the data account.
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
  # A deployment must not write a locked policy. The policy is read with its container, since reading an absent policy
  # by itself is an error.
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

# check_permissions: the template defines and assigns roles, which Contributor may not.
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

# check_secrets: asks for each missing key before anything is made. An existing vault has its secrets, as does a deleted
# one that will be recovered; placeholders count as missing.
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

# bring SECRET VARIABLE TITLE NAMES: asks for a value that is neither in the vault (NAMES) nor in the environment.
bring() {
  [[ -z ${!2:-} ]] && ! grep --quiet --line-regexp "$1" <<<"$4" || return 0
  prompt "$3: " -s || die "no $3: put it into $2 and run this again"
  printf -v "$2" %s "$reply"
}

# prompt QUESTION OPTIONS...: sets reply to the typed answer; returns 1 without one. A dry run does not ask.
prompt() {
  reply=
  [[ -t 0 ]] || return 1
  [[ $dry_run == no ]] || return 0
  read -rp "$1" "${@:2}" reply
  # A hidden answer leaves the line open.
  (($# == 1)) || say
  [[ -n $reply ]]
}

# read_choices: reads the last deployment's address and retention, so that nobody has to choose again.
read_choices() {
  last_email='' last_months=''
  [[ -n $group_there ]] || return 0
  ask "the last deployment" unless_absent az deployment group show --resource-group "$group" --name "bridge-$name" \
    --output tsv --query "properties.parameters.[not_null(alertEmail.value, ''), not_null(retentionMonths.value, '')]"
  take last_email last_months
}

# check_alerts: requires an address for alerts or --no-alerts. Addresses of example.com do not count.
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

# check_retention: sets the months after which history is deleted, unless the parameter file does; 0 keeps everything.
check_retention() {
  if [[ -z $retention_months ]]; then
    jq --exit-status '.given | has("retentionMonths") | not' "$scratch/parameters" >/dev/null || return 0
    reply=$last_months
    [[ -n $reply ]] || prompt 'Months after which history is deleted (0 keeps everything): ' || true
    retention_months=${reply:-0}
  fi
  [[ $retention_months =~ ^[0-9]+$ ]] || die "--retention-months takes a whole number: 0 keeps everything"
}

# check_budget: leaves the budget out where the subscription has no Cost Management, which would fail the deployment.
check_budget() {
  budget=
  [[ -n $(value_of monthlyBudget) ]] || return 0
  az rest --method get --output none 2>"$scratch/errors" \
    --url "/subscriptions/$subscription/providers/Microsoft.Consumption/budgets?api-version=2024-08-01" || {
    budget=null
    say "No budget is made: this subscription lets nobody read its costs"
  }
}
