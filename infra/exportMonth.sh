#!/usr/bin/env bash
# Writes one month of history into a folder: events, calls and the names of audio as JSON Lines, and the audio.
set -euo pipefail

# shellcheck source=azure.sh
source "$(dirname "${BASH_SOURCE[0]}")/azure.sh"

usage='Usage: infra/exportMonth.sh -g GROUP --month YYYY-MM [options]

It needs the rights to read the app keys and the blobs of the data account. Nothing is deleted.'
options='      --month YYYY-MM     month, in UTC
      --folder FOLDER     a new or empty folder, or the folder of an unfinished export (export-YYYY-MM)'
month='' folder=''

# export_rows FILE: writes all parts of the month; the header of each has the continuation of the next.
export_rows() {
  local continuation=
  : >"$1"
  while :; do
    retry 5 "reading a part of $month" api GET "/api/ops/months/$month${continuation:+?continuation=$continuation}" \
      --dump-header "$scratch/headers"
    [[ -z $answer ]] || printf '%s\n' "$answer" >>"$1"
    [[ $dry_run == no ]] || return 0
    continuation=$(tr -d '\r' <"$scratch/headers" | grep --ignore-case '^continuation: ' | cut -d ' ' -f 2) || return 0
  done
}

export_audio() {
  local container
  for container in recordings voicemails; do
    # Remove the files of an earlier run: their blobs may have been deleted since.
    rm -rf "${folder:?}/$container"
    mkdir -p "$folder/$container"
    retry 5 "copying $container" az storage blob download-batch --auth-mode login --account-name "$data_account" \
      --source "$container" --destination "$folder/$container" --pattern "${month/-//}/*" --overwrite true \
      --no-progress --output none
  done
}

main() {
  local unfinished
  begin "$@"
  [[ $month =~ ^[0-9]{4}-(0[1-9]|1[0-2])$ ]] || die "no month: give --month YYYY-MM"
  folder=${folder:-export-$month} unfinished=unfinished-$month.jsonl
  # An unfinished export is started again.
  [[ -f $folder/$unfinished || -z $(ls -A "$folder" 2>/dev/null) ]] ||
    die "$folder is not empty: give another --folder"
  check_az
  read_outputs
  [[ $dry_run == no ]] || folder=$scratch
  mkdir -p "$folder"
  export_rows "$folder/$unfinished"
  export_audio
  mv "$folder/$unfinished" "$folder/history.jsonl"
  conclude "$month is in $folder."
}

main "$@"
