#!/usr/bin/env bash
# Deploys the bridge: infrastructure, secrets, code, keys, webhooks. Run again, it goes on where it stopped.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"
# shellcheck source=checks.sh
source "$infra/checks.sh"

location=
what_if=no
infrastructure=yes
application=yes
replace_keys=no
no_alerts=no
alert_email=
months=

usage() {
  cat <<'USAGE'
Usage: infra/deploy.sh -g GROUP -l REGION [options]

  -g, --group NAME        resource group, made when it does not exist
  -l, --location REGION   region of all resources
  -p, --parameters FILE   parameter file (infra/main.bicepparam)
      --alert-email MAIL  address that alerts are mailed to, where the parameter file has none
      --no-alerts         send no alerts: nobody is mailed when something fails
      --retention-months N  delete history after so many months; 0 keeps everything
      --replace-keys      put PBX_API_KEY and CRM_AUTHORIZATION into the vault in place of what it has
      --infrastructure-only, --skip-infrastructure
                          the first half and the second, for a sign-in that does not last for both
      --what-if           show what would change in Azure, change nothing
      --dry-run           print every call in order, make none
  -h, --help              this text

PBX_API_KEY in the environment is the key from the PBX's panel, CRM_AUTHORIZATION the Authorization header for the
CRM. The vault keeps the keys that it has; a missing one is taken from there, or asked for before anything is made.
USAGE
}

own_option() {
  case $1 in
    -l | --location) needs_value "$@" && location=$2 && used=2 ;;
    --alert-email) needs_value "$@" && alert_email=$2 && used=2 ;;
    --no-alerts) no_alerts=yes ;;
    --retention-months) needs_value "$@" && months=$2 && used=2 ;;
    --replace-keys) replace_keys=yes ;;
    --infrastructure-only) application=no ;;
    --skip-infrastructure) infrastructure=no ;;
    --what-if) what_if=yes ;;
    *) unknown_option "$1" ;;
  esac
}

# deployment VERB OPTIONS...: creates, or asks what would change. Workflows come last: they need a running app.
deployment() {
  local verb=$1 values=() value
  shift
  for value in location="$location" alertEmail="$alert_email" closeDataAccount="$data_closed" \
    recordingPolicyLocked="$policy_locked" deployLogicApps="$workflows_ready" ${months:+retentionMonths="$months"} \
    ${budget:+monthlyBudget="$budget"}; do
    values+=(--parameters "$value")
  done
  az deployment group "$verb" --resource-group "$group" --name "bridge-$name" --parameters "$parameters" \
    "${values[@]}" "$@"
}

# create: deploys, and says every 20 seconds what is being made. A deployment that still runs, after Ctrl-C or on
# another machine, is waited for, up to an hour and a half. Identities and roles take minutes to be known everywhere:
# what was not found yet, and a service that stumbled, is asked again.
create() {
  local attempt tries=0 errors=$scratch/deployment
  for ((attempt = 1; attempt <= 360; attempt++)); do
    if watched deployment create --output none 2>"$errors"; then
      cat "$errors" >&2
      return
    fi
    if grep --quiet -E 'DeploymentActive|AnotherOperationInProgress' "$errors"; then
      ((attempt > 1)) || say "A deployment still runs: waiting for it"
    elif grep --quiet -E "$passing" "$errors" && ((++tries <= 5)); then
      say "Azure does not know all of it yet, or stumbled: attempt $tries of 5 in $retry_seconds s"
    else
      break
    fi
    sleep "$retry_seconds"
  done
  cat "$errors" >&2
  die "the deployment bridge-$name failed: see above"
}

# watched COMMAND...: runs it, with a line every 20 seconds that names the resources being made.
watched() {
  local pid status=0
  if [[ $dry_run == yes ]]; then
    "$@"
    return
  fi
  "$@" &
  pid=$!
  while waits "$pid"; do
    say "$(date +%H:%M:%S)  making $(being_made)"
  done
  wait "$pid" || status=$?
  return "$status"
}

# waits PID: true if a process still runs after 20 seconds; false as soon as it has ended.
waits() {
  local second
  for ((second = 0; second < progress_seconds * 2; second++)); do
    kill -0 "$1" 2>/dev/null || return 1
    sleep 0.5
  done
}

being_made() {
  local made
  made=$(command az deployment operation group list --resource-group "$group" --name "bridge-$name" --output tsv --query \
    "[?properties.provisioningState=='Running'].properties.targetResource.resourceName" 2>/dev/null | paste -sd ' ' -) || true
  printf '%s' "${made:-the resources}"
}

make_group() {
  [[ $group_exists == true ]] || az group create --name "$group" --location "$location" --output none ||
    die "the group $group cannot be made: see above"
}

recover_vault() {
  [[ -z $deleted_vault ]] || az keyvault recover --name "$deleted_vault" --output none
}

# end_roles: takes the vault's secrets from whoever deployed before. Roles given by hand lack the description.
end_roles() {
  local id former
  id=${app_id%/Microsoft.Web/*}/Microsoft.KeyVault/vaults/$vault
  former=$(az rest --method get --output tsv \
    --url "$id/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&\$filter=atScope()" \
    --query "value[?properties.description=='Deploys the bridge' && properties.principalId!='$deployer'].id") || return 1
  for id in $former; do
    az rest --method delete --url "$id?api-version=2022-04-01" --output none || return 1
  done
}

list_secrets() {
  secrets=$(az keyvault secret list --vault-name "$vault" --output tsv \
    --query "[?contentType!='placeholder'].[name, attributes.updated]")
}

has_secret() {
  [[ $dry_run == no ]] && grep --quiet "^$1"$'\t' <<<"$secrets"
}

# store_given SECRET VARIABLE: a key that a person brought. One that the vault has stays, unless --replace-keys.
store_given() {
  local value=${!2:-} old
  [[ -n $value || $dry_run == yes ]] || return 0
  if has_secret "$1"; then
    old=$(retry 5 "reading $1" secret_value "$1")
    [[ $value != "$old" ]] || return 0
    if [[ $replace_keys == no ]]; then
      say "$1 of the vault stays and $2 is not used: --replace-keys puts it there"
      return
    fi
  fi
  store_secret "$1" "$value"
}

# store_made SECRET COMMAND...: a key that is made here.
store_made() {
  local value
  ! has_secret "$1" || return 0
  value=$(retry 5 "making $1" "${@:2}")
  store_secret "$1" "$value"
}

store_secrets() {
  retry 40 "reading $vault" list_secrets
  store_given pbx-api-key PBX_API_KEY
  store_made pbx-webhook-key new_key
  # The same one, but for a rotation.
  store_made pbx-webhook-key-previous secret_value pbx-webhook-key
  store_made logicapps-key new_key
  [[ $(value_of boardSignIn) != key ]] || store_made board-key new_key
  [[ $(value_of boardSignIn) == none ]] || store_made board-admin-key new_key
  store_made subscription-keys new_fernet_key
  ! is_on deployLogicApps || ! is_on newContactCrm ||
    store_given crm-authorization CRM_AUTHORIZATION
  retry 20 "having the app read its secrets" refresh_secrets
}

# pack ZIP: packs what .funcignore leaves of the tree, and prints its hash.
pack() {
  local list=$1.list
  (
    cd "$infra/.." &&
      find function_app.py host.json requirements.txt board functions shared -type f \
        ! -path '*/__pycache__/*' | LC_ALL=C sort >"$list" &&
      zip -q -X -@ "$1" <"$list" &&
      { printf '%s\n' "$python_version" && cat "$list" && tr '\n' '\0' <"$list" | xargs -0 cat; } | digest
  )
}

digest() {
  openssl dgst -sha256 -r | cut -c 1-64
}

# The hash of the running code is a tag of the group, so that nothing is deployed twice.
read_tag() {
  noted=$(az tag list --resource-id "/subscriptions/$subscription/resourceGroups/$group" --output tsv \
    --query "properties.tags.\"$1-$name\"")
}

put_tag() {
  az tag update --resource-id "/subscriptions/$subscription/resourceGroups/$group" --operation merge \
    --tags "$1-$name=$2" --output none
}

deploy_code() {
  local hash
  hash=$(pack "$scratch/app.zip") || die "the code cannot be packed: see above"
  retry 5 "reading the tags" read_tag code
  # A tag outlives its app, and an app whose functions cannot be listed may need its code again.
  if [[ $noted == "$hash" ]] && attempt 5 "listing the functions" list_functions; then
    say "Code: unchanged"
    return
  fi
  # The app's own roles may take minutes to reach the container that the code goes to.
  retry 20 "deploying the code" send_code
  retry 5 "noting the code" put_tag code "$hash"
}

# send_code: uploads the package. az fails too where the package arrived and the app did not come up in time: sending
# it again would not help, and the next step looks at the app itself.
send_code() {
  local errors=$scratch/upload
  az functionapp deployment source config-zip --resource-group "$group" --name "$app" --src "$scratch/app.zip" \
    --build-remote true --timeout 900 --output none 2>"$errors" || {
    cat "$errors" >&2
    grep --quiet --ignore-case unhealthy "$errors" || return 1
    say "The code has arrived; the app is not healthy yet"
  }
}

# list_or_explain: waits for the app's functions. Where they never come, prints the errors of its host.
list_or_explain() {
  attempt 20 "listing the functions" list_functions || {
    az rest --method get --url "$app_id/host/default/properties/status?$web_api" --query properties.errors >&2 || true
    die "$app does not list its functions: see above, and az functionapp log deployment show -g $group -n $app"
  }
}

set_api_key() {
  local key
  key=$(secret_value logicapps-key) || return 1
  read_host_keys || return 1
  [[ $dry_run == no && $logicapps_key == "$key" ]] || printf '%s' "$key" | put_host_key logicapps
}

# The data account leaves the internet once the app answers from within the network.
close_data_account() {
  is_on deployNetwork && [[ $data_closed == false ]] || return 0
  retry 20 "the health check" api GET /api/ops/status
  data_closed=true
  create
}

# Deploying a workflow unsubscribes and subscribes it, so an unchanged one is left alone.
deploy_workflows() {
  local hash
  is_on deployLogicApps || return 0
  retry 5 "reading $vault" list_secrets
  hash=$(workflows_state | digest)
  retry 5 "reading the tags" read_tag workflows
  retry 5 "listing the workflows" list_workflows
  if [[ $noted == "$hash" ]] && workflows_listed; then
    say "Workflows: unchanged"
    return
  fi
  workflows_ready=true
  create
  retry 5 "noting the workflows" put_tag workflows "$hash"
}

# workflows_state: prints everything that workflows are made of; of secrets only when they were written.
workflows_state() {
  grep -E '^(logicapps-key|crm-authorization)' <<<"$secrets" || true
  printf '%s\n' "$location" "$base_url"
  cat "$scratch/parameters" "$infra/main.bicep" "$infra/modules/logicApps.bicep" "$infra"/workflows/*.json
}

list_workflows() {
  workflows=$(az resource list --resource-group "$group" --resource-type Microsoft.Logic/workflows --output tsv \
    --query "[?tags.bridge=='$name'].name")
}

# workflows_listed: true if the workflows that the parameters ask for are there.
workflows_listed() {
  local file workflow
  for file in "$infra"/workflows/*.json; do
    workflow=$(basename "$file" .json)
    ! is_on "$workflow" || grep --quiet "^logic-$workflow-" <<<"$workflows" || return 1
  done
}

report() {
  say
  say "Receivers  $base_url/api/events/{Event}, registered at the PBX"
  [[ $(value_of boardSignIn) == none ]] ||
    say "Page       $base_url/api/board, opened by the secret board-key; board-admin-key opens what erases or replays"
  say "API        $base_url/api/v2, header x-functions-key"
  say "Swagger    $base_url/api/swagger.json"
  say "Keys       vault $vault: pbx-api-key, pbx-webhook-key, logicapps-key (the one for the API)"
  if [[ -n $outbound_ip ]]; then
    say "IP list    $outbound_ip/32 for the API key in the PBX's panel"
  else
    say "IP list    0.0.0.0/0 for the API key in the PBX's panel; deployNetwork = true makes it one address"
  fi
  [[ $no_alerts == no ]] || say "Alerts     none: nobody gets a message when something fails"
  report_problems
}

# report_problems: prints what the app itself finds wrong.
report_problems() {
  local problems
  [[ $dry_run == no ]] || return 0
  problems=$(jq --raw-output '.problems[]?' <<<"$status" 2>/dev/null) || true
  if [[ -z $problems ]]; then
    say "Status     no problems"
  else
    say "Status     problems that the app reports (GET /api/ops/status):"
    say "$problems"
  fi
}

check() {
  [[ -n $location ]] || die "no region: give -l REGION"
  # West Europe is westeurope.
  location=$(lower "${location// /}")
  python_version=$(value_of pythonVersion)
  workflows_ready=false
  check_settings
  check_az
  [[ $what_if == yes ]] || check_vault_token
  check_group
  check_providers
  check_data_account
  check_policy
  check_python
  [[ $what_if == yes ]] || check_permissions
  read_choices
  check_alerts
  check_budget
  check_retention
  [[ $what_if == yes ]] || check_secrets
}

deploy_infrastructure() {
  say "Infrastructure"
  make_group
  recover_vault
  create
}

deploy_application() {
  say "Secrets"
  store_secrets
  say "Code"
  deploy_code
  list_or_explain
  say "Keys"
  retry 20 "the key of the API" set_api_key
  close_data_account
  say "Webhooks"
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync
  retry 20 "the health check" api GET /api/ops/status
  status=$answer
  deploy_workflows
  retry 5 "ending the roles of who deployed before" end_roles
  report
}

main() {
  read_arguments "$@"
  check
  if [[ $what_if == yes ]]; then
    if [[ $dry_run == no && $group_exists != true ]]; then
      say "There is no group $group: everything would be made."
    else
      deployment what-if
    fi
    return
  fi
  [[ $infrastructure == no ]] || deploy_infrastructure
  read_outputs
  [[ $application == no ]] || deploy_application
}

main "$@"
