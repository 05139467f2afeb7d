metadata name = 'Key Vault'
metadata description = 'The vault of the PBX key, the webhook key and the key of the API, read by roles.'

@description('Required. Name of the vault.')
@minLength(3)
@maxLength(24)
param name string

@description('Required. Region.')
param location string

@description('Required. Tags of the resource.')
param tags object

@description('Required. Resource id of the workspace that takes the audit log.')
param workspaceId string

@description('Required. Names of the secrets that the app reads.')
param secretNames string[]

@description('Required. Open the vault to the internet.')
param publicAccess bool

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 90
    // Lets workflow deployments read the key of the API by getSecret.
    enabledForTemplateDeployment: true
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
    }
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
  }
}

// Roles are assigned on single secrets, so placeholders exist before deploy.sh writes the values. The app does not start
// with a placeholder.
@onlyIfNotExists()
resource placeholders 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = [
  for secretName in secretNames: {
    parent: vault
    name: secretName
    properties: {
      value: '<written by deploy.sh>'
      contentType: 'placeholder'
    }
  }
]

// Its stable versions are older and know no category groups.
#disable-next-line use-recent-api-versions
resource auditLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit-log'
  scope: vault
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

@description('Name of the vault.')
output name string = vault.name

@description('Resource id of the vault.')
output resourceId string = vault.id

@description('Address of the vault, with a slash at the end.')
output uri string = vault.properties.vaultUri
