#!/usr/bin/env bash
# Prints the differences between deployments of two folders of templates as Markdown, without asking Azure.
set -euo pipefail

if (($# != 2)); then
  echo 'Usage: .github/snapshotDifference.sh FOLDER-BEFORE FOLDER-NOW' >&2
  exit 1
fi

bicep=${BICEP:-bicep}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# snapshot FOLDER FILE: prints every resource as it would be deployed, one value a line; nothing for a missing file.
snapshot() {
  local copy=$scratch/tree/infra
  rm -rf "$scratch/tree"
  mkdir "$scratch/tree"
  cp -R "$1" "$copy"
  [[ -f $copy/$2 ]] || return 0
  # The template reads the schedules from this file beside its folder.
  cp "$1/../local.settings.json.example" "$scratch/tree/" 2>/dev/null || true
  # Both copies have the same path; the compiler writes its output beside the file.
  "$bicep" snapshot "$copy/$2" --mode overwrite --resource-group bridge --location westeurope \
    --subscription-id 00000000-0000-0000-0000-000000000000 --deployment-name bridge >&2
  # The compiler does not keep the order of keys.
  python3 -m json.tool --sort-keys "${copy}/${2%.bicepparam}.snapshot.json"
}

for file in "$2"/*.bicepparam; do
  file=${file##*/}
  snapshot "$2" "$file" >"$scratch/now"
  # A base that does not compile is compared as empty.
  snapshot "$1" "$file" >"$scratch/before" || : >"$scratch/before"
  printf '### %s\n\n' "$file"
  if difference=$(diff -u -L before -L now "$scratch/before" "$scratch/now"); then
    printf 'Nothing changes.\n\n'
  else
    # GitHub limits a summary to one megabyte.
    # shellcheck disable=SC2016 # Markdown's fences
    printf '```diff\n%s\n```\n\n' "$(head -c 300000 <<<"$difference")"
  fi
done
