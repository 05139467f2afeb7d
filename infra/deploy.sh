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
deployer_id=

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
      --deployer-id ID    object id of who is signed in, where the directory may not be read
      --infrastructure-only, --skip-infrastructure
                          the first half and the second, for a sign-in that does not last for both
      --what-if           show what would change in Azure, change nothing
      --dry-run           print every call in order, make none
  -h, --help              this text

PBX_API_KEY in the environment is the key from the PBX's panel, CRM_AUTHORIZATION the Authorization header for the
CRM. What the vault has stays; what it lacks is taken from there, or asked for.
USAGE
}

own_option() {
  case $1 in
    -l | --location) needs_value "$@" && location=$2 && used=2 ;;
    --alert-email) needs_value "$@" && alert_email=$2 && used=2 ;;
    --no-alerts) no_alerts=yes ;;
    --retention-months) needs_value "$@" && months=$2 && used=2 ;;
    --replace-keys) replace_keys=yes ;;
    --deployer-id) needs_value "$@" && deployer_id=$2 && used=2 ;;
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
  for value in location="$location" deployerPrincipalId="$deployer_id" deployerPrincipalType="$deployer_type" \
    alertEmail="$alert_email" webhooksReady="$webhooks_ready" closeDataAccount="$data_closed" \
    recordingPolicyLocked="$policy_locked" deployLogicApps="$workflows_ready" ${months:+retentionMonths="$months"}; do
    values+=(--parameters "$value")
  done
  az deployment group "$verb" --resource-group "$group" --name "bridge-$name" --parameters "$parameters" \
    "${values[@]}" "$@"
}

# create: a deployment that still runs, after Ctrl-C or on another machine, is waited for, up to an hour and a half.
create() {
  local attempt errors=$scratch/deployment
  for ((attempt = 1; attempt <= 360; attempt++)); do
    if deployment create --output none 2>"$errors"; then
      cat "$errors" >&2
      deployed_ready=$webhooks_ready
      return
    fi
    grep --quiet -E 'DeploymentActive|AnotherOperationInProgress' "$errors" || break
    ((attempt > 1)) || say "A deployment still runs: waiting for it"
    sleep "$retry_seconds"
  done
  cat "$errors" >&2
  die "the deployment bridge-$name failed: see above"
}

make_group() {
  [[ $group_exists == true ]] || az group create --name "$group" --location "$location" --output none ||
    die "the group $group cannot be made: see above"
}

# A vault outlives its resource group by ninety days, and its name with it. Ids spell a group as it was made.
recover_vault() {
  local deleted id
  ask_if_allowed "the deleted vaults" az keyvault list-deleted --resource-type vault --output tsv --query \
    "[?properties.tags.bridge=='$name'].[name, properties.vaultId]" || {
    say "You may not see the subscription's deleted vaults: one of this bridge would have to be recovered by hand"
    return 0
  }
  while IFS=$'\t' read -r deleted id; do
    [[ $(lower "$id") != *"/resourcegroups/$(lower "$group")/"* ]] || az keyvault recover --name "$deleted" --output none
  done <<<"$answer"
}

# end_roles: whoever deployed before keeps no right to the vault's secrets. Roles given by hand have no such description.
end_roles() {
  local id former
  id=${app_id%/Microsoft.Web/*}/Microsoft.KeyVault/vaults/$vault
  former=$(az rest --method get --output tsv \
    --url "$id/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&\$filter=atScope()" \
    --query "value[?properties.description=='Deploys the bridge' && properties.principalId!='$deployer_id'].id") || return 1
  for id in $former; do
    az rest --method delete --url "$id?api-version=2022-04-01" --output none || return 1
  done
}

list_secrets() {
  secrets=$(az keyvault secret list --vault-name "$vault" --query '[].[name, attributes.updated]' --output tsv)
}

has_secret() {
  [[ $dry_run == no ]] && grep --quiet "^$1"$'\t' <<<"$secrets"
}

# store_given SECRET VARIABLE WHAT: what somebody has to bring.
store_given() {
  local value=${!2:-} old
  if has_secret "$1"; then
    [[ -n $value ]] || return 0
    old=$(retry 5 "reading $1" secret_value "$1")
    [[ $value != "$old" ]] || return 0
    if [[ $replace_keys == no ]]; then
      say "$1 of the vault stays and $2 is not used: --replace-keys puts it there"
      return
    fi
  elif [[ -z $value && $dry_run == no ]]; then
    [[ ! -t 0 ]] || { read -rsp "$3: " value && say; }
    [[ -n $value ]] || die "no $3: put it into $2 and run this again"
  fi
  store_secret "$1" "$value"
}

# store_made SECRET COMMAND...: what is made up here.
store_made() {
  local value
  ! has_secret "$1" || return 0
  value=$(retry 5 "making $1" "${@:2}")
  store_secret "$1" "$value"
}

store_secrets() {
  retry 40 "reading $vault" list_secrets
  store_given pbx-api-key PBX_API_KEY 'key from the PBX panel (API)'
  store_made pbx-webhook-key new_key
  # The same one, but for a rotation.
  store_made pbx-webhook-key-previous secret_value pbx-webhook-key
  store_made logicapps-key new_key
  store_made subscription-keys new_fernet_key
  ! is_on deployLogicApps || ! is_on newContactCrm ||
    store_given crm-authorization CRM_AUTHORIZATION 'Authorization header for the CRM'
  retry 20 "having the app read its secrets" refresh_secrets
}

# pack ZIP: what Azure needs of the tree, which is what .funcignore leaves of it. Prints a hash of it.
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

# The hash of what runs is a tag of the group, so that the same is not deployed twice.
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
  # A tag outlives an app, whoever deleted it; and one whose functions nobody can list may need its code again.
  if [[ $noted == "$hash" ]] && attempt 5 "listing the functions" list_receivers && all_listed; then
    say "Code: unchanged"
    return
  fi
  # The app's own roles may take minutes to reach the container that the code goes to.
  retry 20 "deploying the code" az functionapp deployment source config-zip --resource-group "$group" --name "$app" \
    --src "$scratch/app.zip" --build-remote true --timeout 900 --output none
  retry 5 "noting the code" put_tag code "$hash"
}

# all_listed: whether the app has all receivers of the code.
all_listed() {
  local receiver
  for receiver in $(code_receivers); do
    listed "$receiver" || return 1
  done
}

list_all() {
  list_receivers && all_listed
}

# The host that keeps the keys may be starting still.
set_keys() {
  retry 20 "reading $vault" read_webhook_keys
  open_receivers "$current" "$previous"
  retry 20 "the key of the API" set_api_key
}

set_api_key() {
  local key
  key=$(secret_value logicapps-key) || return 1
  read_host_keys || return 1
  [[ $dry_run == no && $logicapps_key == "$key" ]] || printf '%s' "$key" | put_host_key logicapps
}

# What waited for the app: it registers webhooks as soon as their keys exist, and its data account leaves the internet
# once the app reaches it from the network.
finish_infrastructure() {
  local closed=$data_closed
  ! is_on deployNetwork || closed=true
  [[ $deployed_ready != true || $closed != "$data_closed" ]] || return 0
  [[ $closed == "$data_closed" ]] || retry 20 "the health check" api GET /api/ops/status
  webhooks_ready=true data_closed=$closed
  create
}

# A deployed workflow is one that unsubscribes and subscribes: where nothing has changed it is left alone.
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

# workflows_state: all that workflows are made of; of secrets only when they were written.
workflows_state() {
  local files=() file variable
  while IFS= read -r file; do files+=("$file"); done < <(parameter_files "$parameters")
  grep -E '^(logicapps-key|crm-authorization)' <<<"$secrets" || true
  printf '%s\n' "$location" "$base_url"
  cat "${files[@]}" "$infra/main.bicep" "$infra/modules/logicApps.bicep" "$infra"/workflows/*.json
  while read -r variable; do
    printf '%s\n' "${!variable:-}"
  done < <(sed -n "s/.*readEnvironmentVariable('\([A-Za-z0-9_]*\)'.*/\1/p" "${files[@]}")
}

list_workflows() {
  workflows=$(az resource list --resource-group "$group" --resource-type Microsoft.Logic/workflows --output tsv \
    --query "[?tags.bridge=='$name'].name")
}

# workflows_listed: whether those that the parameters ask for are there.
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
  say "API        $base_url/api/v2, header x-functions-key"
  say "Swagger    $base_url/api/swagger.json"
  say "Keys       vault $vault: pbx-api-key, pbx-webhook-key, logicapps-key (the one for the API)"
  if [[ -n $outbound_ip ]]; then
    say "IP list    $outbound_ip/32 for the API key in the PBX's panel"
  else
    say "IP list    0.0.0.0/0 for the API key in the PBX's panel; deployNetwork = true makes it one address"
  fi
  [[ $no_alerts == no ]] || say "Alerts     none: nobody gets a message when something fails"
}

check() {
  local value
  [[ -n $location ]] || die "no region: give -l REGION"
  # West Europe is westeurope.
  location=$(lower "${location// /}")
  read_parameter pythonVersion
  python_version=$value
  workflows_ready=false
  check_tools
  check_az
  check_vault_token
  check_group
  check_providers
  check_data_account
  check_policy
  check_python
  check_permissions
  find_deployer
  read_choices
  check_alerts
  check_retention
  check_workflows
  check_keys
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
  retry 20 "listing the functions" list_all
  say "Keys"
  set_keys
  finish_infrastructure
  say "Webhooks"
  retry 20 "registering the webhooks" api POST /api/ops/webhooks/sync
  retry 20 "the health check" api GET /api/ops/status
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
