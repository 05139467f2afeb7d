metadata name = 'Access'
metadata description = 'Roles of the app and of its deployer, each on a single resource.'

@description('Required. Object id of the app\'s identity.')
param principalId string

@description('Required. Name of the account of the Functions host.')
param hostStorageName string

@description('Required. Name of the account of events and media.')
param dataStorageName string

@description('Required. Names of the containers that hold audio.')
param mediaContainerNames string[]

@description('Required. Name of the container that holds bodies too large for a queue message.')
param payloadContainerName string

@description('Required. Name of the container that holds exports of a person.')
param exportContainerName string

@description('Required. Name of the vault.')
param keyVaultName string

@description('Required. Names of the secrets that the app reads, and of no other.')
param appSecretNames string[]

@description('Required. Name that the resources\' names end with.')
param suffix string

@description('Required. Name of the Application Insights component.')
param componentName string

var roles = {
  'Key Vault Secrets Officer': 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  'Key Vault Secrets User': '4633458b-17de-408a-b874-0445c86b69e6'
  'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb'
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  'Storage Queue Data Contributor': '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

// The only built-in role that may write index tags is the owner's, which may also remove the policy that protects
// recordings. This role is for blobs only.
var audioRoleName = guid(resourceGroup().id, suffix, 'audio')
var blobs = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs'

var accountGrants = [
  {
    account: hostStorageName
    role: 'Storage Blob Data Owner'
  }
  {
    account: hostStorageName
    role: 'Storage Table Data Contributor'
  }
  {
    account: dataStorageName
    role: 'Storage Queue Data Contributor'
  }
  {
    account: dataStorageName
    role: 'Storage Table Data Contributor'
  }
]

// Erasing a person deletes versions in all containers.
var blobContainerNames = concat(mediaContainerNames, [payloadContainerName, exportContainerName])
var containerGrants = map(blobContainerNames, containerName => { container: containerName, role: audioRoleName })

resource accounts 'Microsoft.Storage/storageAccounts@2025-06-01' existing = [
  for grant in accountGrants: {
    name: grant.account
  }
]

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dataStorageName
}

resource blobServices 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: dataStorage
  name: 'default'
}

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = [
  for grant in containerGrants: {
    parent: blobServices
    name: grant.container
  }
]

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: keyVaultName
}

resource secrets 'Microsoft.KeyVault/vaults/secrets@2025-05-01' existing = [
  for secretName in appSecretNames: {
    parent: vault
    name: secretName
  }
]

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource audioRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: audioRoleName
  properties: {
    roleName: 'PBX bridge audio ${suffix}'
    description: 'Blobs with their tags and versions, and nothing of their containers.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          '${blobs}/read'
          '${blobs}/write'
          '${blobs}/add/action'
          '${blobs}/delete'
          '${blobs}/deleteBlobVersion/action'
          '${blobs}/tags/read'
          '${blobs}/tags/write'
        ]
        notDataActions: []
      }
    ]
  }
}

resource account_roleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in accountGrants: {
    name: guid(accounts[i].id, principalId, roles[grant.role])
    scope: accounts[i]
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
    }
  }
]

resource container_roleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in containerGrants: {
    name: guid(containers[i].id, principalId, grant.role)
    scope: containers[i]
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
    }
    dependsOn: [
      audioRole
    ]
  }
]

resource secret_roleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (secretName, i) in appSecretNames: {
    name: guid(secrets[i].id, principalId, roles['Key Vault Secrets User'])
    scope: secrets[i]
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Key Vault Secrets User'])
    }
  }
]

resource vault_roleAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, deployer().objectId, roles['Key Vault Secrets Officer'])
  scope: vault
  properties: {
    // deploy.sh finds the roles of former deployers by this description, and removes them.
    description: 'Deploys the bridge'
    principalId: deployer().objectId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Key Vault Secrets Officer'])
  }
}

resource component_roleAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(component.id, principalId, roles['Monitoring Metrics Publisher'])
  scope: component
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Monitoring Metrics Publisher'])
  }
}

@description('Object id of the deployer.')
output deployerId string = deployer().objectId
