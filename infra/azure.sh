# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with the scripts that source this file
# Functions for the scripts beside it: options, questions to Azure, retries, dry runs, parameters, secrets, the API.

readonly retry_seconds=${RETRY_SECONDS:-15}
readonly web_api=api-version=2024-11-01
# Errors that a retry does not cure: an ended sign-in, an unknown call, a rule of a network or policy, a broken package.
readonly hopeless='AADSTS[0-9]+|az login|unrecognized arguments|not recognized by the system|ForbiddenBy(Firewall|Connection|Policy)|RequestDisallowedByPolicy|No matching distribution|Could not find a version'

infra=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
group=
parameters=$infra/main.bicepparam
dry_run=no
# Answers of Azure.
subscription='' subscription_name='' tenant='' deployed='' app='' outbound_ip='' app_id='' base_url='' vault=''
data_account='' deployer=''

# say writes here, so that its lines reach the terminal even if a caller captures the output of a function.
exec 3>&1

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

say() {
  printf '%s\n' "$*" >&3
}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# begin ARGUMENTS...: reads the options, checks the tools, and evaluates the parameter file.
begin() {
  local tool
  options+='
  -g, --group NAME        resource group of the bridge
  -p, --parameters FILE   parameter file of the deployment (infra/main.bicepparam)
      --dry-run           print every call in order, make none
  -h, --help              this text'
  read_options "$@"
  [[ -n $group ]] || die "no resource group: give -g NAME"
  for tool in az curl jq openssl zip; do
    # az is a function here too; the program counts, and a dry run does without it.
    type -P "$tool" >/dev/null || [[ $tool == az && $dry_run == yes ]] ||
      die "$tool is not installed: install it and run this again"
  done
  read_parameters
  name=$(value_of name)
  [[ $name =~ ^[a-z0-9]{2,6}$ ]] ||
    die "name in $parameters is no name of a bridge: write two to six lower-case letters and digits"
}

# read_options ARGUMENTS...: sets a variable for each option of the help: "--group NAME" sets group, "--dry-run" to yes.
read_options() {
  local option
  while (($#)); do
    [[ $1 != -h && $1 != --help ]] || { printf '%s\n\n%s\n' "$usage" "$options" && exit 0; }
    [[ $1 == -* && $options =~ " "("$1"|"$1, "(--[a-z-]+))(" "[A-Z-]+)?" " ]] || die "unknown option $1: see --help"
    option=${BASH_REMATCH[2]:-$1} option=${option#--}
    if [[ -n ${BASH_REMATCH[3]} ]]; then
      (($# > 1)) || die "$1 needs a value: see --help"
      printf -v "${option//-/_}" %s "$2"
      shift
    else
      printf -v "${option//-/_}" yes
    fi
    shift
  done
}

# print_call COMMAND...: prints a command, quoted for the shell.
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
  # Read a value on standard input, as az would.
  [[ " $* " != *" @- "* ]] || cat >/dev/null
}

# conclude TEXT: prints the result; in a dry run, that nothing was changed.
conclude() {
  [[ $dry_run == no ]] || set -- "Nothing was changed. The calls above would be made."
  say "$1"
}

# unless_dry COMMAND...: runs a check of Azure's answer; true in a dry run.
unless_dry() {
  [[ $dry_run == yes ]] || "$@"
}

# A failed question never counts as no, none or false: it ends the script, or is asked again.

# ask WHAT COMMAND...: sets answer to the command's output, or ends the script.
ask() {
  answer=$("${@:2}") || die "$1 cannot be read: see above; where it is the sign-in, run az login, then this again"
}

# ask_if_allowed WHAT COMMAND...: as ask, but returns 1 without permission. After another failure it calls ask.
ask_if_allowed() {
  answer=$("${@:2}" 2>"$scratch/errors") || {
    ! grep --quiet -E 'AuthorizationFailed|does not have authorization|Forbidden' "$scratch/errors" || return 1
    ask "$@"
  }
}

# unless_absent COMMAND...: runs an az command that shows one resource; prints nothing if it is absent (exit code 3).
unless_absent() {
  local status=0
  "$@" 2>"$scratch/absent" || status=$?
  ((status != 3)) || return 0
  cat "$scratch/absent" >&2
  return "$status"
}

# take NAME...: sets one variable to each line of the answer; in a dry run, to <NAME>.
take() {
  local variable
  for variable; do
    IFS= read -r "${variable?}" || true
    [[ $dry_run == no ]] || printf -v "$variable" '<%s>' "$variable"
  done <<<"$answer"
}

# retry TIMES WHAT COMMAND...: repeats a command until it succeeds and sets answer to its output, since roles take
# minutes to reach every service. An error that a retry does not cure ends the script at once.
retry() {
  attempt "$@" || die "$2 still fails after $1 attempts; run this again to go on from here"
}

# attempt TIMES WHAT COMMAND...: as retry, but returns 1 after the last failure, or at once if the command returns 2.
attempt() {
  local times=$1 what=$2 number status
  shift 2
  for ((number = 1; ; number++)); do
    status=0
    answer=$("$@" 2>"$scratch/errors") || status=$?
    cat "$scratch/errors" >&2
    ((status > 0)) || return 0
    if ((status == 2)) || grep -E "$hopeless" "$scratch/errors" | grep --quiet -ivE 'transient|temporar'; then
      die "$what failed, and waiting does not help: see above; where it is the sign-in, run az login, then this again"
    fi
    ((number < times)) || return 1
    say "$what: not yet, attempt $number of $times"
    sleep "$retry_seconds"
  done
}

# bicep FILE: compiles parameters with the compiler of the PATH, or else of az. The variable lets it run without ICU.
bicep() {
  local -x DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
  if type -P bicep >/dev/null; then
    command bicep build-params "$1" --stdout
  else
    command az bicep build-params --file "$1" --stdout
  fi
}

# read_parameters: evaluates the parameter file; stores the given values, and all values with the template's defaults.
read_parameters() {
  bicep "$parameters" >"$scratch/built" 2>"$scratch/errors" || {
    cat "$scratch/errors" >&2
    die "$parameters does not compile: see above"
  }
  jq '(.parametersJson | fromjson | .parameters | map_values(.value)) as $given
    | {$given, all: ((.templateJson | fromjson | .parameters | map_values(.defaultValue)) + $given)}' \
    "$scratch/built" >"$scratch/parameters"
  jq -r '.all | to_entries[] | select(.value != null) | "\(.key)=\(.value)"' "$scratch/parameters" >"$scratch/values"
}

# value_of NAME: prints the value of a parameter, or nothing.
value_of() {
  sed -n "s/^$1=//p" "$scratch/values"
}

# is_on NAME: true if a parameter is true.
is_on() {
  [[ $(value_of "$1") == true ]]
}

check_az() {
  local version
  ask "the version of az" az version --query '"azure-cli"' --output tsv
  check_version az "$answer" 2.87.0 "az upgrade"
  # @onlyIfNotExists needs Bicep 0.38. az keeps an old compiler, and downloads the newest if it has none.
  version=$(az bicep version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p') || true
  check_version Bicep "$version" 0.38.0 "az bicep upgrade"
  ask "the sign-in" az account show --query '[id, name, tenantId]' --output tsv
  take subscription subscription_name tenant
  say "Subscription $subscription_name ($subscription), tenant $tenant"
}

# check_version TOOL VERSION LEAST REMEDY
check_version() {
  [[ -z $2 || $(printf '%s\n' "$3" "$2" | sort -V | head -n 1) == "$3" ]] ||
    die "$1 $2 is too old: run $4 to get $3 or newer"
}

# read_outputs: reads the names and addresses of the last deployment.
read_outputs() {
  retry 5 "reading the deployment bridge-$name" \
    unless_absent az deployment group show --resource-group "$group" --name "bridge-$name" --output tsv \
    --query "[name, properties.outputs.[functionAppName.value, outboundIpAddress.value, functionAppId.value, \
baseUrl.value, keyVaultName.value, dataStorageName.value, deployerId.value]][]"
  take deployed app outbound_ip app_id base_url vault data_account deployer
  [[ -n $deployed ]] || die "no deployment bridge-$name in $group: run infra/deploy.sh first"
  [[ -n $app ]] || die "the last deployment $deployed in $group failed: run infra/deploy.sh again, it says why"
}

# secret_value NAME: prints a secret of the vault. Only capture it in a variable.
secret_value() {
  az keyvault secret show --vault-name "$vault" --name "$1" --query value --output tsv
}

# store_secret NAME VALUE [OPTIONS...]
store_secret() {
  retry 20 "storing $1" put_secret "$@"
}

# put_secret NAME VALUE [OPTIONS...]: passes the value on standard input, not on the command line.
put_secret() {
  printf '%s' "$2" | az keyvault secret set --vault-name "$vault" --name "$1" --value @- --output none "${@:3}"
}

new_key() {
  openssl rand -hex 32
}

# new_fernet_key: prints a key that encrypts subscriptions.
new_fernet_key() {
  openssl rand -base64 32 | tr '+/' '-_'
}

# The app reads a changed secret within a day; this has it read now.
refresh_secrets() {
  retry 20 "having the app read its secrets" az rest --method post --output none \
    --url "$app_id/config/configreferences/appsettings/refresh?api-version=2022-03-01"
}

# host_key QUERY: prints a key of the host, or nothing. Some versions of az functionapp keys list print nulls.
host_key() {
  az rest --method post --url "$app_id/host/default/listkeys?$web_api" --output tsv --query "not_null($1, '')"
}

# api METHOD PATH OPTIONS...: prints the app's answer; on failure says the app's problem and returns 1. curl reads the
# master key from standard input, so it is on no command line. A POST needs --data '', because some front ends refuse
# one without a length.
api() {
  local answer problem key
  set -- --request "$1" "${@:3}" "$base_url$2"
  key=$(host_key masterKey) || return 1
  if [[ $dry_run == yes ]]; then
    print_call curl "$@"
    return
  fi
  [[ -n $key ]] || die "$app gave no master key"
  if answer=$(printf 'header = "x-functions-key: %s"\n' "$key" |
    curl --silent --show-error --fail-with-body --max-time 200 --config - "$@"); then
    printf '%s' "$answer"
    return
  fi
  problem=$(jq --raw-output '.. | objects | (.problem, .title) | strings' <<<"$answer" 2>/dev/null) || true
  [[ -z $problem ]] || say "$app: $problem"
  return 1
}
