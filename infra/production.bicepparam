using 'main.bicep'

param name = 'pbx'
param tags = {
  application: 'pbx-bridge'
  environment: 'production'
}

// One address towards the PBX for the key's IP list; the data account leaves the internet.
param deployNetwork = true

// Audio: three copies in three zones, two months to undo a deletion, a year unchangeable, deleted after three.
param dataStorageSku = 'Standard_ZRS'
param softDeleteDays = 60
param mediaCoolAfterDays = 60
param mediaRetentionDays = 1095
param recordingImmutabilityDays = 365

// History is deleted after as long as audio.
param retentionMonths = 36

// Where flows may call to: a stolen key must not ring the world.
param dialCountries = ['LV', 'LT', 'EE']

// No cold start for the PBX's webhooks, a core for each instance, and a cap on what a storm can cost.
param alwaysReadyInstanceCount = 1
param instanceMemoryMB = 2048
param maximumInstanceCount = 40

param logRetentionDays = 90
param logDailyQuotaGb = 5
param alertEmail = 'operations@example.com'
param monthlyBudget = 200
