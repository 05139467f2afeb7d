metadata name = 'Data storage'
metadata description = 'The account of events, calls, queues, recordings and voicemails.'

@description('Required. Name of the storage account.')
@minLength(3)
@maxLength(24)
param name string

@description('Required. Region.')
param location string

@description('Required. Tags of the resource.')
param tags object

@description('Required. Redundancy of the account.')
param skuName string

@description('Required. Names of the tables.')
param tableNames string[]

@description('Required. Names of the queues; each gets a poison queue beside it.')
param queueNames string[]

@description('Required. Names of the containers that hold audio.')
param mediaContainerNames string[]

@description('Required. Name of the container that holds bodies too large for a queue message.')
param payloadContainerName string

@description('Required. Name of the container that holds exports of a person.')
param exportContainerName string

@description('Required. Name of the media container that the immutability policy is for.')
param recordingContainerName string

@description('Required. Days that deleted blobs and containers can be restored.')
@minValue(1)
@maxValue(365)
param softDeleteDays int

@description('Optional. Days after which audio moves to the cool tier. Null: never.')
param mediaCoolAfterDays int?

@description('Optional. Days after which audio and its old versions are deleted. Null: never.')
param mediaRetentionDays int?

@description('Optional. Days after which the long bodies of history are deleted. Null: never.')
param historyRetentionDays int?

@description('Optional. Days during which a recording can be neither changed nor deleted. Null: no policy.')
param recordingImmutabilityDays int?

@description('Required. Leave the policy alone, because it is locked.')
param recordingPolicyLocked bool

@description('Required. Open the account to the internet.')
param publicAccess bool

@description('Required. Resource id of the workspace that takes the access log of the blobs.')
param workspaceId string

// A body belongs to a message, which lives seven days, or to a dead letter, which should be handled sooner than this.
var payloadRetentionDays = 90

var allQueueNames = concat(queueNames, map(queueNames, queueName => '${queueName}-poison'))
var containerNames = concat(mediaContainerNames, [payloadContainerName, exportContainerName])

var coolBlob = mediaCoolAfterDays == null ? {} : { tierToCool: { daysAfterModificationGreaterThan: mediaCoolAfterDays! } }
var coolVersion = mediaCoolAfterDays == null ? {} : { tierToCool: { daysAfterCreationGreaterThan: mediaCoolAfterDays! } }
var deleteBlob = mediaRetentionDays == null ? {} : { delete: { daysAfterModificationGreaterThan: mediaRetentionDays! } }
// Deleted and overwritten versions can be restored as long as other deleted blobs.
var deleteVersion = { delete: { daysAfterCreationGreaterThan: mediaRetentionDays ?? softDeleteDays } }

// Bodies of messages that were too long for a queue. Bodies of rows stay.
var payloadRule = {
  name: 'payloads'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: {
      blobTypes: ['blockBlob']
      prefixMatch: map(queueNames, queueName => '${payloadContainerName}/${queueName}/')
    }
    actions: {
      baseBlob: {
        delete: {
          daysAfterModificationGreaterThan: payloadRetentionDays
        }
      }
      version: {
        delete: {
          daysAfterCreationGreaterThan: 1
        }
      }
    }
  }
}

// Long bodies of history: events, dead letters and polled items. Contacts are not history.
var historyPrefixes = ['bodies', 'deadletters', 'resources/call_history', 'resources/call_records', 'resources/voicemails']
var historyRule = {
  name: 'history'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: {
      blobTypes: ['blockBlob']
      prefixMatch: map(historyPrefixes, prefix => '${payloadContainerName}/${prefix}/')
    }
    actions: {
      baseBlob: {
        delete: {
          daysAfterModificationGreaterThan: historyRetentionDays
        }
      }
      version: {
        delete: {
          daysAfterCreationGreaterThan: historyRetentionDays
        }
      }
    }
  }
}

// Exports of a person are deleted after a week, by the app and by this rule.
var exportRule = {
  name: 'exports'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: {
      blobTypes: ['blockBlob']
      prefixMatch: ['${exportContainerName}/']
    }
    actions: {
      baseBlob: {
        delete: {
          daysAfterModificationGreaterThan: 7
        }
      }
      version: {
        delete: {
          daysAfterCreationGreaterThan: 1
        }
      }
    }
  }
}

var mediaRule = {
  name: 'media'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: {
      blobTypes: ['blockBlob']
      prefixMatch: map(mediaContainerNames, containerName => '${containerName}/')
    }
    actions: {
      baseBlob: union(coolBlob, deleteBlob)
      version: union(coolVersion, deleteVersion)
    }
  }
}

var lifecycleRules = concat([payloadRule, exportRule, mediaRule], historyRetentionDays == null ? [] : [historyRule])

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: skuName
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
    }
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    supportsHttpsTrafficOnly: true
  }
}

resource blobServices 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
  }
}

resource blobServices_containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for containerName in containerNames: {
    parent: blobServices
    name: containerName
    properties: {
      publicAccess: 'None'
    }
  }
]

resource recordingContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobServices
  name: recordingContainerName
}

resource recordingImmutability 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2025-06-01' = if (recordingImmutabilityDays != null && !recordingPolicyLocked) {
  parent: recordingContainer
  name: 'default'
  properties: {
    immutabilityPeriodSinceCreationInDays: recordingImmutabilityDays!
    allowProtectedAppendWrites: false
  }
  dependsOn: [
    blobServices_containers
  ]
}

resource queueServices 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource queueServices_queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for queueName in allQueueNames: {
    parent: queueServices
    name: queueName
  }
]

resource tableServices 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource tableServices_tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = [
  for tableName in tableNames: {
    parent: tableServices
    name: tableName
  }
]

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: lifecycleRules
    }
  }
  dependsOn: [
    blobServices
  ]
}

// Its stable versions are older and know no category groups.
#disable-next-line use-recent-api-versions
resource blobAccessLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'access-log'
  scope: blobServices
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'audit'
        enabled: true
      }
    ]
  }
}

@description('Name of the storage account.')
output name string = account.name

@description('Resource id of the storage account.')
output resourceId string = account.id
