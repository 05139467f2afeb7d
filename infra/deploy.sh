#!/usr/bin/env bash
# Deploys the bridge: infrastructure, secrets, code, keys, webhooks. If it stops, run it again: it goes on from there.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"
# shellcheck source=checks.sh
source "$infra/checks.sh"

usage='Usage: infra/deploy.sh -g GROUP -l REGION [options]

It makes the group if it does not exist. In the environment, PBX_API_KEY is the key from the PBX panel and
CRM_AUTHORIZATION the Authorization header for the CRM. The vault keeps the keys that it has. A missing key is read from
the environment, or asked for before anything is made.'
options='  -l, --location REGION   region of all resources
      --alert-email MAIL  address for alerts
      --no-alerts         send no alerts: nobody is mailed when something fails
      --retention-months N  delete history after N months; 0 keeps everything
      --replace-keys      replace the keys in the vault by PBX_API_KEY and CRM_AUTHORIZATION
      --infrastructure-only  only the first half, if the sign-in does not last for both
      --skip-infrastructure  only the second half
      --what-if           show the changes in Azure, make none'
location='' alert_email='' retention_months=''
no_alerts=no replace_keys=no infrastructure_only=no skip_infrastructure=no what_if=no

# Transient errors of a deployment: identities and roles take minutes to reach every service.
readonly passing='RoleDefinitionDoesNotExist|PrincipalNotFound|InternalServerError|ServiceUnavailable|ServerTimeout|Status ?Code: ?50[03]|\(50[03]\)'

# deployment VERB OPTIONS...: runs az deployment group create or what-if. Workflows need a running app, so come last.
deployment() {
  az deployment group "$1" --resource-group "$group" --name "bridge-$name" --parameters "$parameters" \
    location="$location" alertEmail="$alert_email" closeDataAccount="$data_closed" \
    recordingPolicyLocked="$policy_locked" deployLogicApps="$workflows_ready" \
    ${retention_months:+retentionMonths="$retention_months"} ${budget:+monthlyBudget="$budget"} "${@:2}"
}

# create: deploys, and reports the progress.
create() {
  [[ $dry_run == yes ]] || say_progress &
  retry 6 "the deployment bridge-$name" deploy_once
  { kill $! && wait $!; } 2>/dev/null || true
}

# deploy_once: deploys, after waiting up to an hour and a half for a deployment that still runs, after Ctrl-C or on
# another machine. Returns 1 for a transient error, 2 for another one.
deploy_once() {
  local waits=0 errors=$scratch/deployment
  until deployment create --output none 2>"$errors"; do
    if ! grep --quiet -E 'DeploymentActive|AnotherOperationInProgress' "$errors" || ((++waits > 360)); then
      cat "$errors" >&2
      grep --quiet -E "$passing" "$errors" && return 1
      return 2
    fi
    ((waits > 1)) || say "A deployment still runs: waiting for it"
    sleep "$retry_seconds"
  done
}

say_progress() {
  local made
  # The pause holds no output of the script open.
  while sleep "${PROGRESS_SECONDS:-20}" >/dev/null 2>&1 3>&-; do
    made=$(command az deployment operation group list --resource-group "$group" --name "bridge-$name" --output tsv \
      --query "[?properties.provisioningState=='Running'].properties.targetResource.resourceName" 2>/dev/null) || made=
    made=${made//$'\n'/ }
    say "$(date +%H:%M:%S)  making ${made:-the resources}"
  done
}

deploy_infrastructure() {
  say "Infrastructure"
  [[ -n $group_there ]] || az group create --name "$group" --location "$location" --output none ||
    die "the group $group cannot be made: see above"
  [[ -z $deleted_vault ]] || az keyvault recover --name "$deleted_vault" --output none
  create
}

list_secrets() {
  retry 40 "reading $vault" az keyvault secret list --vault-name "$vault" --output tsv \
    --query "[?contentType!='placeholder'].[name, attributes.updated]"
  secrets=$answer
}

has_secret() {
  [[ $dry_run == no ]] && grep --quiet "^$1"$'\t' <<<"$secrets"
}

# store_given SECRET VARIABLE: stores a key from a person. A key in the vault stays, unless --replace-keys is given.
store_given() {
  local value=${!2:-}
  [[ -n $value || $dry_run == yes ]] || return 0
  if has_secret "$1"; then
    retry 5 "reading $1" secret_value "$1"
    [[ $value != "$answer" ]] || return 0
    if [[ $replace_keys == no ]]; then
      say "$1 of the vault stays and $2 is not used: --replace-keys puts it there"
      return
    fi
  fi
  store_secret "$1" "$value"
}

# store_made SECRET COMMAND...: stores the command's output, unless the vault has the key.
store_made() {
  ! has_secret "$1" || return 0
  retry 5 "making $1" "${@:2}"
  store_secret "$1" "$answer"
}

store_secrets() {
  list_secrets
  store_given pbx-api-key PBX_API_KEY
  store_made pbx-webhook-key new_key
  # Only during a rotation the two differ.
  store_made pbx-webhook-key-previous secret_value pbx-webhook-key
  store_made logicapps-key new_key
  [[ $(value_of boardSignIn) != key ]] || store_made board-key new_key
  [[ $(value_of boardSignIn) == none ]] || store_made board-admin-key new_key
  store_made subscription-keys new_fernet_key
  ! is_on deployLogicApps || ! is_on newContactCrm || store_given crm-authorization CRM_AUTHORIZATION
  refresh_secrets
}

# The group's tags have hashes of the deployed code and workflows, so that unchanged ones are not deployed again.

# is_noted WHAT HASH: true if the tag has this hash.
is_noted() {
  retry 5 "reading the tags" az tag list --resource-id "/subscriptions/$subscription/resourceGroups/$group" \
    --output tsv --query "properties.tags.\"$1-$name\""
  [[ $answer == "$2" ]]
}

note() {
  retry 5 "noting the $1" az tag update --resource-id "/subscriptions/$subscription/resourceGroups/$group" \
    --operation merge --tags "$1-$name=$2" --output none
}

digest() {
  openssl dgst -sha256 -r | cut -c 1-64
}

# pack ZIP: packs the app's files, and prints their hash.
pack() {
  local list=$1.list
  cd "$infra/.." &&
    find function_app.py host.json requirements.txt board functions shared -type f \
      ! -path '*/__pycache__/*' | LC_ALL=C sort >"$list" &&
    zip -q -X -@ "$1" <"$list" &&
    { printf '%s\n' "$python_version" && cat "$list" && tr '\n' '\0' <"$list" | xargs -0 cat; } | digest
}

# list_functions: fails until the app lists its functions, once its host has loaded the code.
list_functions() {
  local number
  number=$(az functionapp function list --resource-group "$group" --name "$app" --query 'length(@)' --output tsv) &&
    unless_dry test "${number:-0}" -gt 0
}

deploy_code() {
  local hash
  hash=$(pack "$scratch/app.zip") || die "the code cannot be packed: see above"
  # A tag outlives its app, and an app whose functions cannot be listed may need its code again.
  if is_noted code "$hash" && attempt 5 "listing the functions" list_functions; then
    say "Code: unchanged"
    return
  fi
  # The app's roles may take minutes to reach the container of the code.
  retry 20 "deploying the code" send_code
  note code "$hash"
  attempt 20 "listing the functions" list_functions || {
    az rest --method get --url "$app_id/host/default/properties/status?$web_api" --query properties.errors >&2 || true
    die "$app does not list its functions: see above, and az functionapp log deployment show -g $group -n $app"
  }
}

# send_code: uploads the package. az also fails if the package arrived but the app did not start in time. That counts as
# success here: another upload would not help, and the next step checks the app.
send_code() {
  az functionapp deployment source config-zip --resource-group "$group" --name "$app" --src "$scratch/app.zip" \
    --build-remote true --timeout 900 --output none 2>"$scratch/upload" || {
    cat "$scratch/upload" >&2
    grep --quiet --ignore-case unhealthy "$scratch/upload" || return 1
    say "The code has arrived; the app is not healthy yet"
  }
}

# set_api_key: sets the host's key for the API from the vault.
set_api_key() {
  local key old
  key=$(secret_value logicapps-key) && old=$(host_key functionKeys.logicapps) || return 1
  [[ $dry_run == no && $old == "$key" ]] ||
    printf '{"properties":{"name":"logicapps","value":"%s"}}' "$key" | az rest --method put --body @- --output none \
      --url "$app_id/host/default/functionKeys/logicapps?$web_api"
}

# close_data_account: closes the data account to the internet once the app answers from within the network.
close_data_account() {
  is_on deployNetwork && [[ $data_closed == false ]] || return 0
  retry 20 "the health check" api GET /api/ops/status
  data_closed=true
  create
}

# deploy_workflows: leaves unchanged workflows alone, since a deployment unsubscribes and subscribes them.
deploy_workflows() {
  is_on deployLogicApps || return 0
  list_secrets
  hash_workflows
  if is_noted workflows "$hash"; then
    say "Workflows: unchanged"
  else
    workflows_ready=true
    create
    hash_workflows
    note workflows "$hash"
  fi
}

# hash_workflows: sets hash from the existing workflows, the files and values they are made of, and the times at which
# their secrets were stored.
hash_workflows() {
  retry 5 "listing the workflows" az resource list --resource-group "$group" --output tsv \
    --resource-type Microsoft.Logic/workflows --query "sort([?tags.bridge=='$name'].name)"
  hash=$({
    printf '%s\n' "$answer" "$location" "$base_url"
    grep -E '^(logicapps-key|crm-authorization)' <<<"$secrets"
    cat "$scratch/values" "$infra/main.bicep" "$infra/modules/logicApps.bicep" "$infra"/workflows/*.json
  } | digest)
}

# end_roles: removes the roles of former deployers on the vault, which have the template's description.
end_roles() {
  local id=${app_id%/Microsoft.Web/*}/Microsoft.KeyVault/vaults/$vault former whose
  whose="properties.description=='Deploys the bridge' && properties.principalId!='$deployer'"
  former=$(az rest --method get --output tsv --query "value[?$whose].id" \
    --url "$id/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&\$filter=atScope()") || return 1
  for id in $former; do
    az rest --method delete --url "$id?api-version=2022-04-01" --output none || return 1
  done
}

deploy_application() {
  say "Secrets"
  store_secrets
  say "Code"
  deploy_code
  say "Keys"
  retry 20 "the key of the API" set_api_key
  close_data_account
  say "Webhooks"
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync --data ''
  retry 20 "the health check" api GET /api/ops/status
  status=$answer
  deploy_workflows
  retry 5 "ending the roles of former deployers" end_roles
  report
}

report() {
  local problems
  say
  say "Receivers  $base_url/api/events/{Event}, registered at the PBX"
  [[ $(value_of boardSignIn) == none ]] ||
    say "Page       $base_url/api/board, opened by the secret board-key; board-admin-key opens what erases or replays"
  say "API        $base_url/api/v2, header x-functions-key"
  say "Swagger    $base_url/api/swagger.json"
  say "Keys       vault $vault: pbx-api-key, pbx-webhook-key, logicapps-key (the one for the API)"
  if is_on deployNetwork; then
    say "IP list    $outbound_ip/32 for the API key in the PBX's panel"
  else
    say "IP list    0.0.0.0/0 for the API key in the PBX's panel; deployNetwork = true makes it one address"
  fi
  [[ $no_alerts == no ]] || say "Alerts     none: nobody gets a message when something fails"
  problems=$(jq --raw-output '.problems[]?' <<<"$status") || true
  conclude "Status     ${problems:-no problems}"
}

main() {
  begin "$@"
  [[ -n $location ]] || die "no region: give -l REGION"
  # "West Europe" becomes "westeurope".
  location=$(tr -d ' ' <<<"$location" | tr '[:upper:]' '[:lower:]')
  python_version=$(value_of pythonVersion)
  workflows_ready=false
  check_settings
  check_az
  check_group
  check_providers
  check_data_account
  check_python
  [[ $what_if == yes ]] || check_permissions
  read_choices
  check_alerts
  check_budget
  check_retention
  if [[ $what_if == no ]]; then
    check_secrets
    [[ $skip_infrastructure == yes ]] || deploy_infrastructure
    read_outputs
    if [[ $infrastructure_only == yes ]]; then
      conclude "The infrastructure is ready. Run this with --skip-infrastructure for the rest."
    else
      deploy_application
    fi
  elif [[ $dry_run == no && -z $group_there ]]; then
    say "There is no group $group: everything would be made."
  else
    deployment what-if
  fi
}

main "$@"
