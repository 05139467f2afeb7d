metadata name = 'PBX bridge'
metadata description = 'Everything the bridge needs in one resource group.'

@description('Optional. Region of all resources.')
param location string = resourceGroup().location

@description('Optional. Short name in the names of all resources: lower-case letters and digits. A second bridge in the same group needs another one.')
@minLength(2)
@maxLength(6)
param name string = 'pbx'

@description('Optional. Tags of all resources.')
param tags object = {}

@description('Optional. Address of the PBX\'s API, with a slash at the end.')
param pbxBaseUrl string = 'https://zvanuparvaldnieks.lmt.lv/api/v2/'

@description('Optional. Events to register webhooks for. Empty: all.')
param pbxEvents string[] = []

@description('Optional. Hosts that audio may be fetched from. Empty: the PBX\'s host.')
param mediaHosts string[] = []

@description('Optional. Country that national numbers belong to, such as LV.')
@minLength(2)
@maxLength(2)
param defaultRegion string = 'LV'

@description('Optional. Time zone of days and of times shown to people, an IANA name.')
param timeZone string = 'Europe/Riga'

@description('Optional. Countries that may be dialled through the API. Empty: any.')
param dialCountries string[] = []

@description('Optional. Maximum calls dialled per hour through the API. 0 disables dialling.')
@minValue(0)
param dialPerHour int = 200

@description('Optional. Delete our copy of a voicemail that is deleted at the PBX.')
param mirrorVoicemailDeletes bool = false

@description('Optional. Start of the first poll: now (new items only), all, or an ISO date.')
param pollStart string = 'now'

@description('Optional. Hours that the hourly comparison with the PBX\'s lists looks back.')
@minValue(1)
@maxValue(744)
param sweepLookbackHours int = 24

@description('Optional. Seconds to wait for a webhook before a polled item replaces it.')
@minValue(1)
@maxValue(86400)
param reconcileGraceSeconds int = 300

@description('Optional. Sign-in of the page at /api/board: a key, the platform\'s sign-in with Entra, or no page.')
@allowed([
  'key'
  'entra'
  'none'
])
param boardSignIn string = 'key'

@description('Optional. Client id of the Entra application that people sign in to. Needed with boardSignIn = \'entra\'.')
param boardClientId string = ''

@description('Optional. Schedules that differ from the defaults: setting to NCRONTAB text, in UTC.')
param scheduleOverrides object = {}

@description('Optional. Python version of the function app.')
@allowed([
  '3.11'
  '3.12'
  '3.13'
])
param pythonVersion string = '3.12'

@description('Optional. Memory of an instance in megabytes.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 512

@description('Optional. Maximum instances of each scale group: HTTP together, each queue and each timer alone.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Optional. Instances kept warm for HTTP. They cost money while idle.')
@minValue(0)
param alwaysReadyInstanceCount int = 0

@description('Optional. HTTP requests, or queue messages, that an instance handles at once. Null: chosen by the memory.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int?

@description('Optional. Redundancy of the data account.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param dataStorageSku string = 'Standard_LRS'

@description('Optional. Days that deleted blobs and containers can be restored.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 30

@description('Optional. Days after which audio moves to the cool tier. Null: never.')
param mediaCoolAfterDays int?

@description('Optional. Days after which audio and its old versions are deleted. Null: never.')
param mediaRetentionDays int?

@description('Optional. Months after which events, calls and polled items are deleted, and audio unless mediaRetentionDays is set. 0 keeps them.')
@minValue(0)
@maxValue(1200)
param retentionMonths int = 0

@description('Optional. Days during which a recording can be neither changed nor deleted. Null: no policy.')
param recordingImmutabilityDays int?

@description('Optional. Leave the policy of recordings alone, because it is locked. Set by deploy.sh.')
param recordingPolicyLocked bool = false

@description('Optional. Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Optional. Maximum gigabytes of logs a day. Above it none are stored until the next day.')
@minValue(1)
param logDailyQuotaGb int = 1

@description('Optional. Address for alerts. Empty: no alert rules, only the workbook.')
param alertEmail string = ''

@description('Optional. Monthly budget in the currency of the bill. At half of it and at all of it alertEmail gets a mail. Null: no budget.')
@minValue(1)
param monthlyBudget int?

@description('Optional. First day of the budget, the first of a month. Used only when the budget is made.')
param budgetStart string = utcNow('yyyy-MM-01')

@description('Optional. Deploy a network: one address towards the PBX, private endpoints for the storage accounts and the vault.')
param deployNetwork bool = false

@description('Optional. Close the storage accounts to the internet, with deployNetwork. Set by deploy.sh: false until the app runs in the network.')
param closeDataAccount bool = true

@description('Optional. Close the vault to the internet, with deployNetwork. The scripts then have to run in the network.')
param closeVault bool = false

@description('Optional. Address range of the network, /24 or larger.')
param networkAddressPrefix string = '10.71.0.0/24'

@description('Optional. Deploy the chosen Logic Apps workflows. deploy.sh does so last, since they need a running app.')
param deployLogicApps bool = false

@description('Optional. Workflow: a missed call becomes a mail with a call-back link.')
param missedCallMail bool = false

@description('Optional. Workflow: a missed call becomes a Teams message with a call-back link.')
param missedCallTeams bool = false

@description('Optional. Workflow: an answered call becomes a row of an Excel table.')
param callLogExcel bool = false

@description('Optional. Workflow: a stored voicemail becomes a mail with the audio.')
param voicemailMail bool = false

@description('Optional. Workflow: a new contact is posted to a CRM, with the secret crm-authorization of the vault as Authorization header.')
param newContactCrm bool = false

@description('Optional. Recipient of the mails of workflows.')
param workflowMailTo string = ''

@description('Optional. Time zone of mails, messages and tables, by a name that Logic Apps knows.')
param workflowTimeZone string = 'FLE Standard Time'

@description('Optional. Group id of the team for the Teams message.')
param teamsGroupId string = ''

@description('Optional. Id of the channel for the Teams message.')
param teamsChannelId string = ''

@description('Optional. Location of the Excel file: me for OneDrive, groups/ID for a group, sites/ID for a SharePoint site.')
param excelSource string = 'me'

@description('Optional. Id of the drive with the Excel file.')
param excelDriveId string = ''

@description('Optional. Id of the Excel file.')
param excelFileId string = ''

@description('Optional. Name of the table in the Excel file. Its columns are CallID, Started, Caller, Destination, Direction, Seconds and AnsweredBy.')
param excelTable string = 'Calls'

@description('Optional. Address of the CRM for new contacts.')
param crmUrl string = ''

// destroy.sh finds what belongs to a bridge by this tag.
var allTags = union(tags, { bridge: name })

var token = uniqueString(resourceGroup().id, name)
var suffix = '${name}-${token}'
var hostStorageName = 'st${name}h${token}'
var dataStorageName = 'st${name}d${token}'
var keyVaultName = 'kv-${name}-${token}'

var tableNames = [
  'audit'
  'board'
  'budget'
  'calls'
  'checkpoints'
  'deadletters'
  'deliveries'
  'dials'
  'ended'
  'events'
  'feed'
  'forgotten'
  'health'
  'lostcallers'
  'media'
  'numbers'
  'privacy'
  'resources'
  'subscriptions'
  'webhooks'
]

var queueNames = [
  'deliveries'
  'events'
  'media'
  'privacy'
]

// The app's timer deletes rows. Rules of the account delete blobs, after 31 days for each month.
var historyDays = retentionMonths > 0 ? retentionMonths * 31 : null

var recordingContainerName = 'recordings'
var mediaContainerNames = [recordingContainerName, 'voicemails']
var payloadContainerName = 'payloads'
var exportContainerName = 'exports'
var packageContainerName = 'packages'

// Secrets that the app reads, by the names of their settings: all but logicapps-key and crm-authorization.
var boardSecrets = {
  key: { BOARD_KEY: 'board-key', BOARD_ADMIN_KEY: 'board-admin-key' }
  entra: { BOARD_ADMIN_KEY: 'board-admin-key' }
  none: {}
}
var appSecrets = union(boardSecrets[boardSignIn], {
  PBX_API_KEY: 'pbx-api-key'
  PBX_WEBHOOK_KEY: 'pbx-webhook-key'
  PBX_WEBHOOK_KEY_PREVIOUS: 'pbx-webhook-key-previous'
  SUBSCRIPTION_KEYS: 'subscription-keys'
})
var appSecretNames = map(items(appSecrets), row => row.value)

// 512 MB are enough for the host, the worker and this many copies of audio at once.
var concurrencyOfMemory = {
  '512': 8
  '2048': 16
  '4096': 32
}
var concurrency = httpConcurrency ?? concurrencyOfMemory[string(instanceMemoryMB)]

// A test compares the example with the defaults of the code.
var exampleValues = loadJsonContent('../local.settings.json.example', 'Values')
var defaultSchedules = toObject(
  filter(items(exampleValues), row => endsWith(row.key, '_SCHEDULE')),
  row => row.key,
  row => string(row.value)
)

var bridgeSettings = {
  BOARD_SIGN_IN: boardSignIn
  DEFAULT_REGION: defaultRegion
  DIAL_COUNTRIES: join(dialCountries, ',')
  DIAL_PER_HOUR: string(dialPerHour)
  MEDIA_HOSTS: join(mediaHosts, ',')
  MIRROR_VOICEMAIL_DELETES: mirrorVoicemailDeletes ? 'true' : 'false'
  PBX_BASE_URL: pbxBaseUrl
  PBX_EVENTS: join(pbxEvents, ',')
  POLL_START: pollStart
  RECONCILE_GRACE_SECONDS: string(reconcileGraceSeconds)
  RETENTION_MONTHS: string(retentionMonths)
  SWEEP_LOOKBACK_HOURS: string(sweepLookbackHours)
  TIME_ZONE: timeZone
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: keyVaultName
}

module identity 'modules/identity.bicep' = {
  name: 'identity-${name}'
  params: {
    name: 'id-${suffix}'
    location: location
    tags: allTags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring-${name}'
  params: {
    workspaceName: 'log-${suffix}'
    componentName: 'appi-${suffix}'
    location: location
    tags: allTags
    retentionDays: logRetentionDays
    dailyQuotaGb: logDailyQuotaGb
  }
}

module hostStorage 'modules/hostStorage.bicep' = {
  name: 'hostStorage-${name}'
  params: {
    name: hostStorageName
    location: location
    tags: allTags
    packageContainerName: packageContainerName
    publicAccess: !(deployNetwork && closeDataAccount)
  }
}

module dataStorage 'modules/dataStorage.bicep' = {
  name: 'dataStorage-${name}'
  params: {
    name: dataStorageName
    location: location
    tags: allTags
    skuName: dataStorageSku
    tableNames: tableNames
    queueNames: queueNames
    mediaContainerNames: mediaContainerNames
    payloadContainerName: payloadContainerName
    exportContainerName: exportContainerName
    recordingContainerName: recordingContainerName
    softDeleteDays: softDeleteDays
    mediaCoolAfterDays: mediaCoolAfterDays
    mediaRetentionDays: mediaRetentionDays ?? historyDays
    historyRetentionDays: historyDays
    recordingImmutabilityDays: recordingImmutabilityDays
    recordingPolicyLocked: recordingPolicyLocked
    publicAccess: !(deployNetwork && closeDataAccount)
    workspaceId: monitoring.outputs.workspaceId
  }
}

module keyVault 'modules/keyVault.bicep' = {
  name: 'keyVault-${name}'
  params: {
    name: keyVaultName
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    secretNames: appSecretNames
    publicAccess: !(deployNetwork && closeVault)
  }
}

module network 'modules/network.bicep' = if (deployNetwork) {
  name: 'network-${name}'
  params: {
    suffix: suffix
    location: location
    tags: allTags
    addressPrefix: networkAddressPrefix
    dataStorageId: dataStorage.outputs.resourceId
    hostStorageId: hostStorage.outputs.resourceId
    keyVaultId: keyVault.outputs.resourceId
  }
}

module access 'modules/access.bicep' = {
  name: 'access-${name}'
  params: {
    principalId: identity.outputs.principalId
    hostStorageName: hostStorage.outputs.name
    dataStorageName: dataStorage.outputs.name
    mediaContainerNames: mediaContainerNames
    payloadContainerName: payloadContainerName
    exportContainerName: exportContainerName
    keyVaultName: keyVault.outputs.name
    appSecretNames: appSecretNames
    suffix: suffix
    componentName: monitoring.outputs.componentName
  }
}

module functionApp 'modules/functionApp.bicep' = {
  name: 'functionApp-${name}'
  params: {
    planName: 'plan-${suffix}'
    name: 'func-${suffix}'
    location: location
    tags: allTags
    identityName: identity.outputs.name
    hostStorageName: hostStorage.outputs.name
    packageContainerName: hostStorage.outputs.packageContainerName
    dataStorageName: dataStorage.outputs.name
    componentName: monitoring.outputs.componentName
    keyVaultUri: keyVault.outputs.uri
    secretNames: appSecrets
    signInClientId: boardSignIn == 'entra' ? boardClientId : ''
    pythonVersion: pythonVersion
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstanceCount: alwaysReadyInstanceCount
    concurrency: concurrency
    subnetId: deployNetwork ? network!.outputs.functionsSubnetId : ''
    appSettings: union(bridgeSettings, defaultSchedules, scheduleOverrides)
  }
  // The app starts as soon as it exists, and does not start without its roles.
  dependsOn: [
    access
  ]
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts-${name}'
  params: {
    suffix: suffix
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    email: alertEmail
    schedules: union(defaultSchedules, scheduleOverrides)
    monthlyBudget: monthlyBudget
    budgetStart: budgetStart
  }
}

module logicApps 'modules/logicApps.bicep' = if (deployLogicApps) {
  name: 'logicApps-${name}'
  params: {
    suffix: suffix
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    apiUrl: '${functionApp.outputs.baseUrl}/api/v2'
    apiKey: vault.getSecret('logicapps-key')
    missedCallMail: missedCallMail
    missedCallTeams: missedCallTeams
    callLogExcel: callLogExcel
    voicemailMail: voicemailMail
    newContactCrm: newContactCrm
    mailTo: workflowMailTo
    teamsGroupId: teamsGroupId
    teamsChannelId: teamsChannelId
    timeZone: workflowTimeZone
    excelSource: excelSource
    excelDriveId: excelDriveId
    excelFileId: excelFileId
    excelTable: excelTable
    crmUrl: crmUrl
    crmAuthorization: newContactCrm ? vault.getSecret('crm-authorization') : ''
  }
}

@description('Name of the function app.')
output functionAppName string = functionApp.outputs.name

@description('Resource id of the function app.')
output functionAppId string = functionApp.outputs.resourceId

@description('Address of the function app, without a slash at the end.')
output baseUrl string = functionApp.outputs.baseUrl

@description('Name of the vault that holds the keys.')
output keyVaultName string = keyVault.outputs.name

@description('Name of the account of events and media.')
output dataStorageName string = dataStorage.outputs.name

@description('Object id of the deployer, who has a role on the vault\'s secrets.')
output deployerId string = access.outputs.deployerId

@description('Address that the app calls the PBX from. Empty: any address of the region.')
output outboundIpAddress string = deployNetwork ? network!.outputs.ipAddress : ''

@description('Names of the deployed workflows.')
output workflowNames array = deployLogicApps ? logicApps!.outputs.workflowNames : []
