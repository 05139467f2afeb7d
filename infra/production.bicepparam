using 'main.bicep'

param name = 'pbx'
param tags = {
  application: 'pbx-bridge'
  environment: 'production'
}

// One address towards the PBX, for the key's IP list; the data account is closed to the internet.
param deployNetwork = true

// Audio: three copies in three zones, two months to undo a deletion, a year unchangeable, deleted after three.
param dataStorageSku = 'Standard_ZRS'
param softDeleteDays = 60
param mediaCoolAfterDays = 60
param mediaRetentionDays = 1095
param recordingImmutabilityDays = 365

// History is deleted at the same age as audio.
param retentionMonths = 36

// Countries that may be dialled, which limits the damage of a stolen key.
param dialCountries = ['LV', 'LT', 'EE']

// No cold start for the PBX's webhooks, a core for each instance, and a limit on the cost of a storm.
param alwaysReadyInstanceCount = 1
param instanceMemoryMB = 2048
param maximumInstanceCount = 40

param logRetentionDays = 90
param logDailyQuotaGb = 5
param alertEmail = 'operations@example.com'
param monthlyBudget = 200
