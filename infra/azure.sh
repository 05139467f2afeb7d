# shellcheck shell=bash
# shellcheck disable=SC2034 # most names here are for the scripts that source this file
# Shared by the scripts beside it: options, one line a failure, a dry run, trying again, secrets, keys, the app's API.

readonly minimum_az=2.87.0
# The first with @onlyIfNotExists.
readonly minimum_bicep=0.38.0
readonly retry_seconds=${RETRY_SECONDS:-15}
readonly progress_seconds=${PROGRESS_SECONDS:-20}
readonly web_api=api-version=2024-11-01

# Errors that waiting does not cure: an ended sign-in, an unknown call, a rule of a network or policy, a broken package.
readonly hopeless='AADSTS[0-9]+|az login|unrecognized arguments|not recognized by the system|ForbiddenBy(Firewall|Connection|Policy)|RequestDisallowedByPolicy|No matching distribution|Could not find a version'

# Errors of a deployment that a later attempt does not have.
readonly passing='RoleDefinitionDoesNotExist|PrincipalNotFound|InternalServerError|ServiceUnavailable|ServerTimeout|Status ?Code: ?50[03]|\(50[03]\)'

# Errors of az for a missing right.
readonly forbidden='AuthorizationFailed|does not have authorization|Forbidden'

infra=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dry_run=no
group=
name=
parameters=$infra/main.bicepparam

# Lines of say reach the terminal also while a function's output is read.
exec 3>&1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() {
  printf '%s\n' "$*" >&3
}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# read_arguments ARGUMENTS...: the options that all scripts have; own_option takes the others and sets used.
read_arguments() {
  local used
  while (($#)); do
    used=1
    case $1 in
      -g | --group) needs_value "$@" && group=$2 && used=2 ;;
      -p | --parameters) needs_value "$@" && parameters=$2 && used=2 ;;
      --dry-run) dry_run=yes ;;
      -h | --help) usage && exit 0 ;;
      *) own_option "$@" ;;
    esac
    shift "$used"
  done
  [[ -n $group ]] || die "no resource group: give -g NAME"
  [[ -f $parameters ]] || die "no parameter file $parameters: give -p FILE"
  check_tools
  read_parameters
  name=$(value_of name)
  [[ $name =~ ^[a-z0-9]{2,6}$ ]] ||
    die "name in $parameters is no name of a bridge: write two to six lower-case letters and digits"
}

needs_value() {
  (($# > 1)) || die "$1 needs a value: see --help"
}

unknown_option() {
  die "unknown option $1: see --help"
}

# print_call COMMAND...: as it would be typed.
print_call() {
  local word line=
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=@,?{}+-]+$ ]] || word=\'${word//\'/\'\\\'\'}\'
    line+="$word "
  done
  say "${line% }"
}

az() {
  if [[ $dry_run == no ]]; then
    command az "$@"
    return
  fi
  print_call az "$@"
  # A value on standard input is taken, as az would.
  [[ " $* " != *" @- "* ]] || cat >/dev/null
}

# unless_dry COMMAND...: runs a check that needs an answer from Azure; true in a dry run.
unless_dry() {
  [[ $dry_run == yes ]] || "$@"
}

# A question that failed has no answer. It never means no, none or false: it ends the script, or is asked again.

# ask WHAT COMMAND...: sets answer to the command's output, or ends the script.
ask() {
  answer=$("${@:2}") || unread "$1"
}

unread() {
  die "$1 cannot be read: see above; where it is the sign-in, run az login, then this again"
}

# ask_if_allowed WHAT COMMAND...: the same, but 1 where who is signed in may not know.
ask_if_allowed() {
  local errors=$scratch/errors
  if answer=$("${@:2}" 2>"$errors"); then
    cat "$errors" >&2
  elif grep --quiet -E "$forbidden" "$errors"; then
    return 1
  else
    cat "$errors" >&2
    unread "$1"
  fi
}

# unless_absent COMMAND...: a call of az that shows one thing; prints nothing where there is none, which az says by 3.
unless_absent() {
  local status=0 errors=$scratch/absent
  "$@" 2>"$errors" || status=$?
  ((status != 3)) || return 0
  cat "$errors" >&2
  return "$status"
}

# retry ATTEMPTS WHAT COMMAND...: one command, until it works. Roles take minutes to reach every service; what no
# waiting cures ends at once.
retry() {
  attempt "$@" || die "$2 still fails after $1 attempts; run this again to go on from here"
}

# attempt ATTEMPTS WHAT COMMAND...: the same, but 1 where it never works.
attempt() {
  local attempts=$1 what=$2 attempt=1 errors=$scratch/errors
  shift 2
  until "$@" 2>"$errors"; do
    cat "$errors" >&2
    if grep -E "$hopeless" "$errors" | grep --quiet --invert-match --ignore-case -E 'transient|temporar'; then
      die "$what failed, and waiting does not help: see above; where it is the sign-in, run az login, then this again"
    fi
    ((attempt < attempts)) || return 1
    say "$what: not yet, attempt $attempt of $attempts"
    attempt=$((attempt + 1))
    sleep "$retry_seconds"
  done
  cat "$errors" >&2
}

lower() {
  tr '[:upper:]' '[:lower:]' <<<"$1"
}

# read_host_keys: the master key, and the host key logicapps. Some versions of az answer az functionapp keys list with
# nulls, so the service itself is asked, here and for the keys of functions.
read_host_keys() {
  local answer
  answer=$(az rest --method post --url "$app_id/host/default/listkeys?$web_api" --output tsv \
    --query "[not_null(masterKey, ''), not_null(functionKeys.logicapps, '')]") || return 1
  { read -r master_key && read -r logicapps_key; } <<<"$answer" || true
  unless_dry test -n "$master_key" || {
    printf 'error: %s gave no master key\n' "$app" >&2
    return 1
  }
}

# put_host_key NAME: gives the host the key on standard input.
put_host_key() {
  key_body "$1" | az rest --method put --url "$app_id/host/default/functionKeys/$1?$web_api" --body @- --output none
}

# key_body NAME: what the service takes for the key on standard input.
key_body() {
  printf '{"properties":{"name":"%s","value":"%s"}}' "$1" "$(cat)"
}

# api METHOD PATH OPTIONS...: asks the app, with its master key on curl's standard input and so on no command line, and says
# what the app finds wrong. What it answers is in answer.
api() {
  local problem length=()
  # A POST without a length is 411 at some front ends.
  [[ $1 != POST ]] || length=(--header 'Content-Length: 0')
  set -- --request "$1" ${length[@]+"${length[@]}"} "${@:3}" "$base_url$2"
  answer=
  read_host_keys || return 1
  if [[ $dry_run == yes ]]; then
    print_call curl "$@"
    return
  fi
  answer=$(printf 'header = "x-functions-key: %s"\n' "$master_key" |
    curl --silent --show-error --fail-with-body --max-time 200 --config - "$@") || {
    problem=$(sed -n -e 's/.*"problem": *"\([^"]*\)".*/\1/p' -e 's/.*"title": *"\([^"]*\)".*/\1/p' <<<"$answer")
    [[ -z $problem ]] || say "$app: $problem"
    return 1
  }
}

# bicep: the compiler of the PATH, or else that of az. It needs no ICU this way.
bicep() {
  local -x DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
  if type -P bicep >/dev/null; then
    command bicep build-params "$1" --stdout
  else
    command az bicep build-params --file "$1" --stdout
  fi
}

# read_parameters: has the compiler evaluate the parameter file into $scratch/given, and adds the template's defaults.
read_parameters() {
  local built=$scratch/built
  bicep "$parameters" >"$built" 2>"$scratch/errors" || {
    cat "$scratch/errors" >&2
    die "$parameters does not compile: see above"
  }
  jq '.parametersJson | fromjson | .parameters | map_values(.value)' "$built" >"$scratch/given"
  jq --slurpfile given "$scratch/given" \
    '(.templateJson | fromjson | .parameters | map_values(.defaultValue)) + $given[0]' "$built" >"$scratch/parameters"
}

# value_of NAME: prints the value of a parameter, nothing where it has none.
value_of() {
  jq --raw-output --arg name "$1" '.[$name] // empty' "$scratch/parameters"
}

# is_given NAME: true if the parameter file sets it.
is_given() {
  jq --exit-status --arg name "$1" 'has($name)' "$scratch/given" >/dev/null
}

# is_on NAME: true if a parameter is true.
is_on() {
  [[ $(value_of "$1") == true ]]
}

check_tools() {
  local tool
  for tool in az curl jq openssl zip; do
    # az is a function here too; the program counts, and a dry run does without it.
    type -P "$tool" >/dev/null || [[ $tool == az && $dry_run == yes ]] || die "$tool is not installed: install it and run this again"
  done
}

# older VERSION LEAST: true if a version is below the least that is needed.
older() {
  [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

check_az() {
  local version
  ask "the version of az" az version --query '"azure-cli"' --output tsv
  ! older "${answer:-$minimum_az}" "$minimum_az" ||
    die "az $answer is too old: run az upgrade to get $minimum_az or newer"
  # az never updates a compiler that it has installed. Where it has none, it fetches the newest.
  version=$(az bicep version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p') || version=
  ! older "${version:-$minimum_bicep}" "$minimum_bicep" ||
    die "Bicep $version is too old: run az bicep upgrade to get $minimum_bicep or newer"
  ask "the sign-in" az account show --query '[id, name, tenantId]' --output tsv
  { read -r subscription && read -r subscription_name && read -r tenant; } <<<"$answer" || true
  [[ $dry_run == no ]] || subscription='<subscription>' subscription_name='<name>' tenant='<tenant>'
  [[ -n $subscription ]] || die "not signed in: run az login"
  say "Subscription $subscription_name ($subscription), tenant $tenant"
}

# secret_value NAME: prints a secret of the vault, for a variable only.
secret_value() {
  az keyvault secret show --vault-name "$vault" --name "$1" --query value --output tsv
}

# put_secret NAME VALUE [OPTIONS...]: stores a secret; the value is on no command line.
put_secret() {
  printf '%s' "$2" | az keyvault secret set --vault-name "$vault" --name "$1" --value @- --output none "${@:3}"
}

store_secret() {
  retry 20 "storing $1" put_secret "$@"
}

new_key() {
  openssl rand -hex 32 | tr -d '\n'
}

# new_fernet_key: what subscriptions are sealed under.
new_fernet_key() {
  openssl rand -base64 32 | tr '+/' '-_' | tr -d '\n'
}

# The app reads a changed secret within a day by itself; this makes it read now.
refresh_secrets() {
  az rest --method post --output none \
    --url "$app_id/config/configreferences/appsettings/refresh?api-version=2022-03-01"
}

# list_functions: fails until the app lists its functions, which it does once its host has read the code.
list_functions() {
  local number
  number=$(az functionapp function list --resource-group "$group" --name "$app" --query 'length(@)' --output tsv) &&
    unless_dry test "${number:-0}" -gt 0
}

# read_webhook_keys: the webhook key and the previous one, which differ only during a rotation, and the time at which each
# was stored, in UTC, to the second.
read_webhook_keys() {
  read_webhook_key pbx-webhook-key || return 1
  current=$key current_stored=$stored
  read_webhook_key pbx-webhook-key-previous || return 1
  previous=$key previous_stored=$stored
}

read_webhook_key() {
  local answer
  answer=$(az keyvault secret show --vault-name "$vault" --name "$1" --query '[value, attributes.updated]' \
    --output tsv) || return 1
  { read -r key && read -r stored; } <<<"$answer" || true
  [[ $dry_run == no ]] || key='<key>' stored='<time>'
  stored=${stored:0:19}
  [[ -n $key && -n $stored ]] || {
    printf 'error: %s gave no %s\n' "$vault" "$1" >&2
    return 1
  }
}

# read_outputs: what the last deployment made.
read_outputs() {
  local deployed=
  app=
  retry 5 "reading the deployment bridge-$name" show_outputs
  [[ $dry_run == no ]] || {
    app='<functionAppName>' app_id='<functionAppId>' base_url='<baseUrl>' vault='<keyVaultName>'
    data_account='<dataStorageName>' outbound_ip='' deployer='<deployerId>'
    return 0
  }
  [[ -n $outputs ]] || die "no deployment bridge-$name in $group: run infra/deploy.sh first"
  {
    read -r deployed && read -r app && read -r outbound_ip && read -r app_id && read -r base_url && read -r vault &&
      read -r data_account && read -r deployer
  } <<<"$outputs" || true
  [[ -n $app ]] || die "the last deployment $deployed in $group failed: run infra/deploy.sh again, it says why"
}

show_outputs() {
  outputs=$(unless_absent az deployment group show --resource-group "$group" --name "bridge-$name" --output tsv \
    --query "[name, properties.outputs.[functionAppName.value, outboundIpAddress.value, functionAppId.value, \
baseUrl.value, keyVaultName.value, dataStorageName.value, deployerId.value]][]")
}
