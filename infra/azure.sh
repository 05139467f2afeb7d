# shellcheck shell=bash
# shellcheck disable=SC2034 # most names here are for the scripts that source this file
# Shared by the scripts beside it: options, one line a failure, a dry run, trying again, and the app's own API.

readonly minimum_az=2.87.0
readonly retry_seconds=${RETRY_SECONDS:-15}

infra=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dry_run=no
group=
name=
parameters=$infra/main.bicepparam

# What a function prints while its output is being read still reaches the terminal.
exec 3>&1

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
  name=$(parameter name)
  [[ $name =~ ^[a-z0-9]{2,6}$ ]] ||
    die "name in $parameters is no name of a bridge: write two to six lower-case letters and digits, in quotes"
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

# unless_dry COMMAND...: a check whose answer is only known when Azure is asked.
unless_dry() {
  [[ $dry_run == yes ]] || "$@"
}

# retry ATTEMPTS WHAT COMMAND...: one command, until it works. Roles take minutes to reach every service.
retry() {
  local attempts=$1 what=$2 attempt=1
  shift 2
  until "$@"; do
    ((attempt < attempts)) || die "$what still fails after $attempt attempts; run this again to go on from here"
    say "$what: not yet, attempt $attempt of $attempts"
    attempt=$((attempt + 1))
    sleep "$retry_seconds"
  done
}

# api METHOD PATH: asks the app, with its master key on curl's standard input and so on no command line, and says
# what the app finds wrong.
api() {
  if [[ $dry_run == yes ]]; then
    print_call curl --request "$1" "$base_url$2"
    return
  fi
  local key answer problem
  key=$(az functionapp keys list --resource-group "$group" --name "$app" --query masterKey --output tsv) || return 1
  answer=$(printf 'header = "x-functions-key: %s"\n' "$key" |
    curl --silent --show-error --fail-with-body --max-time 200 --config - --request "$1" "$base_url$2") || {
    problem=$(sed -n -e 's/.*"problem": *"\([^"]*\)".*/\1/p' -e 's/.*"title": *"\([^"]*\)".*/\1/p' <<<"$answer")
    [[ -z $problem ]] || say "$app: $problem"
    return 1
  }
}

# parameter NAME: what the parameter file, or else the template, gives to a parameter that is a plain word.
parameter() {
  local value
  value=$(sed -n "s/^param $1 *= *//p" "$parameters")
  [[ -n $value ]] || value=$(sed -n "s/^param $1 [a-z]* *= *//p" "$infra/main.bicep")
  printf '%s' "$value" | sed "s, *//.*,,; s/'//g; s/[[:space:]]*\$//"
}

check_tools() {
  local tool
  for tool in az curl openssl zip; do
    # az is a function here too; what counts is the program.
    unless_dry type -P "$tool" >/dev/null || die "$tool is not installed: install it and run this again"
  done
}

check_az() {
  local version
  version=$(az version --query '"azure-cli"' --output tsv)
  unless_dry test "$(printf '%s\n' "$minimum_az" "$version" | sort -V | head -n 1)" = "$minimum_az" ||
    die "az $version is too old: run az upgrade to get $minimum_az or newer"
  subscription=$(az account show --query id --output tsv 2>/dev/null) || die "not signed in: run az login"
  [[ $dry_run == no ]] || subscription='<subscription>'
}

# secret_value NAME: prints a secret of the vault, for a variable only.
secret_value() {
  az keyvault secret show --vault-name "$vault" --name "$1" --query value --output tsv
}

# put_secret NAME: stores what stands on standard input.
put_secret() {
  az keyvault secret set --vault-name "$vault" --name "$1" --value @- --output none
}

new_key() {
  openssl rand -hex 32 | tr -d '\n'
}

# The app reads a changed secret within a day by itself; this makes it read now.
refresh_secrets() {
  az rest --method post --output none \
    --url "$app_id/config/configreferences/appsettings/refresh?api-version=2022-03-01"
}

# put_function_key FUNCTION NAME: gives a function the key on standard input.
put_function_key() {
  az functionapp function keys set --resource-group "$group" --name "$app" --function-name "$1" \
    --key-name "$2" --key-value @- --output none
}

# read_outputs: what the last deployment made.
read_outputs() {
  if [[ $dry_run == yes ]]; then
    app='<functionAppName>' app_id='<functionAppId>' base_url='<baseUrl>' vault='<keyVaultName>'
    outbound_ip=
  fi
  local outputs
  outputs=$(az deployment group show --resource-group "$group" --name "bridge-$name" --output tsv --query \
    'properties.outputs.[functionAppName.value, outboundIpAddress.value, functionAppId.value, baseUrl.value, keyVaultName.value]') ||
    die "no deployment bridge-$name in $group: run infra/deploy.sh first"
  [[ $dry_run == yes || -n $outputs ]] ||
    die "the last deployment bridge-$name in $group failed: run infra/deploy.sh again, it says why"
  [[ $dry_run == yes ]] || {
    read -r app
    read -r outbound_ip
    read -r app_id
    read -r base_url
    read -r vault
  } <<<"$outputs"
}

# The ten functions that the PBX posts to, and the only ones its key opens.
receivers=(
  OnCallStarted
  OnCallConnected
  OnCallCompleted
  OnCallRecorded
  OnCallTransfered
  OnLostCallerAdded
  OnLostCallerUpdated
  OnLostCallerRemoved
  OnVoicemailCreated
  OnVoicemailDeleted
)
