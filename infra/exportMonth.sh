#!/usr/bin/env bash
# Writes one month of a bridge's history into a folder: events, calls and the names of audio as JSON Lines, and the audio.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

month=
folder=

usage() {
  cat <<'USAGE'
Usage: infra/exportMonth.sh -g GROUP --month YYYY-MM [options]

  -g, --group NAME        resource group of the bridge
      --month YYYY-MM     month, in UTC
      --folder FOLDER     where it goes: a new or empty folder, or one where this stopped (export-YYYY-MM)
  -p, --parameters FILE   parameter file it was deployed with (infra/main.bicepparam)
      --dry-run           print every call in order, make none
  -h, --help              this text

Whoever runs it needs to read the app's keys and the blobs of the data account. Nothing is deleted.
USAGE
}

own_option() {
  case $1 in
    --month) needs_value "$@" && month=$2 && used=2 ;;
    --folder) needs_value "$@" && folder=$2 && used=2 ;;
    *) unknown_option "$1" ;;
  esac
}

# rows: all parts of the month, each asked for where the header of the one before says.
rows() {
  local continuation='' headers=$scratch/headers
  : >"$folder/$unfinished"
  while :; do
    retry 5 "reading a part of $month" part "$continuation" "$headers"
    [[ -z $answer ]] || printf '%s\n' "$answer" >>"$folder/$unfinished"
    continuation=$(header continuation "$headers")
    [[ -n $continuation ]] || return 0
  done
}

part() {
  api GET "/api/ops/months/$month${1:+?continuation=$1}" --dump-header "$2"
}

# header NAME FILE: its value, where the answer had it.
header() {
  [[ $dry_run == no ]] || return 0
  tr -d '\r' <"$2" | awk -F': ' -v name="$1" 'tolower($1) == name { value = $2 } END { printf "%s", value }'
}

audio() {
  local container
  for container in recordings voicemails; do
    rm -rf "${folder:?}/$container"
    mkdir -p "$folder/$container"
    retry 5 "copying $container" az storage blob download-batch --auth-mode login --account-name "$data_account" \
      --source "$container" --destination "$folder/$container" --pattern "${month/-//}/*" --overwrite true \
      --no-progress --output none
  done
}

main() {
  read_arguments "$@"
  [[ $month =~ ^[0-9]{4}-(0[1-9]|1[0-2])$ ]] || die "no month: give --month YYYY-MM"
  folder=${folder:-export-$month} unfinished=unfinished-$month.jsonl
  # What an earlier run began is begun again.
  [[ -f $folder/$unfinished || -z $(ls -A "$folder" 2>/dev/null) ]] ||
    die "$folder is not empty: give another --folder"
  check_tools
  check_az
  read_outputs
  folder_asked=$folder
  [[ $dry_run == no ]] || folder=$scratch
  mkdir -p "$folder"
  rows
  audio
  mv "$folder/$unfinished" "$folder/history.jsonl"
  if [[ $dry_run == yes ]]; then
    say "Nothing was written. $month would be in ${folder_asked}."
  else
    say "$month is in $folder."
  fi
}

main "$@"
