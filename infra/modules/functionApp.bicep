metadata name = 'Function app'
metadata description = 'The Flex Consumption plan, the function app on it, and every setting the app reads.'

@description('Required. Name of the plan.')
param planName string

@description('Required. Name of the function app.')
param name string

@description('Required. Region.')
param location string

@description('Required. Tags of the resources.')
param tags object

@description('Required. Name of the identity that the app runs as.')
param identityName string

@description('Required. Name of the account of the Functions host.')
param hostStorageName string

@description('Required. Name of the container that code packages are put into.')
param packageContainerName string

@description('Required. Name of the account of events and media.')
param dataStorageName string

@description('Required. Name of the Application Insights component.')
param componentName string

@description('Required. Address of the Key Vault, with a slash at the end.')
param keyVaultUri string

@description('Required. Secrets that the app reads: name of the setting to name of the secret.')
param secretNames object

@description('Required. Client id of the Entra application that people sign in to. Empty: no sign-in by the platform.')
param signInClientId string

@description('Required. Python version.')
param pythonVersion string

@description('Required. Memory of an instance in megabytes.')
param instanceMemoryMB int

@description('Required. Maximum instances of each scale group.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('Required. Instances kept warm for HTTP.')
@minValue(0)
param alwaysReadyInstanceCount int

@description('Required. HTTP requests, or queue messages, that an instance handles at once; its worker has as many threads.')
@minValue(1)
@maxValue(1000)
param concurrency int

@description('Required. Resource id of the subnet that the app calls out from. Empty: none.')
param subnetId string

@description('Required. Settings of the bridge: name to text.')
param appSettings object

// A queue function runs a batch and the messages fetched at the threshold: together one for each thread.
// A batch has at most 32 messages.
var queueBatch = min(32, (concurrency + 1) / 2)

var secretSettings = toObject(
  items(secretNames),
  row => row.key,
  row => '@Microsoft.KeyVault(SecretUri=${keyVaultUri}secrets/${row.value})'
)

// The app's identity replaces a secret of the Entra application.
var identitySetting = 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
var signInSettings = empty(signInClientId) ? {} : { '${identitySetting}': identity.properties.clientId }

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostStorageName
}

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dataStorageName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    // Without this only calls to private addresses use the subnet, and the PBX sees any address of the region.
    outboundVnetRouting: empty(subnetId) ? null : {
      allTraffic: true
    }
    functionAppConfig: {
      // Instances finish their work before they are replaced. The compiler's types lag behind the service.
      #disable-next-line BCP037
      siteUpdateStrategy: {
        type: 'RollingUpdate'
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostStorage.properties.primaryEndpoints.blob}${packageContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'python'
        version: pythonVersion
      }
      scaleAndConcurrency: {
        alwaysReady: alwaysReadyInstanceCount > 0 ? [
          {
            name: 'http'
            instanceCount: alwaysReadyInstanceCount
          }
        ] : []
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        triggers: {
          http: {
            perInstanceConcurrency: concurrency
          }
        }
      }
    }
    siteConfig: {
      http20Enabled: true
      minTlsVersion: '1.2'
    }
  }
}

// Each deployment replaces all settings: a setting that is not here is removed.
resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'appsettings'
  properties: union(appSettings, secretSettings, signInSettings, {
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
    APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
    AZURE_CLIENT_ID: identity.properties.clientId
    AzureFunctionsJobHost__extensions__queues__batchSize: string(queueBatch)
    AzureFunctionsJobHost__extensions__queues__newBatchThreshold: string(min(concurrency - queueBatch, queueBatch))
    AzureWebJobsStorage__blobServiceUri: hostStorage.properties.primaryEndpoints.blob
    AzureWebJobsStorage__clientId: identity.properties.clientId
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__queueServiceUri: hostStorage.properties.primaryEndpoints.queue
    AzureWebJobsStorage__tableServiceUri: hostStorage.properties.primaryEndpoints.table
    DataStorage__blobServiceUri: dataStorage.properties.primaryEndpoints.blob
    DataStorage__clientId: identity.properties.clientId
    DataStorage__credential: 'managedidentity'
    DataStorage__queueServiceUri: dataStorage.properties.primaryEndpoints.queue
    DataStorage__tableServiceUri: dataStorage.properties.primaryEndpoints.table
    FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '1048576'
    PUBLIC_BASE_URL: 'https://${app.properties.defaultHostName}'
    PYTHON_THREADPOOL_THREAD_COUNT: string(concurrency)
    RUNS_IN_AZURE: 'true'
  })
}

// Anonymous requests reach the app: the API has keys, and the page requires the platform's header.
resource signIn 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: !empty(signInClientId)
    }
    globalValidation: {
      requireAuthentication: false
      unauthenticatedClientAction: 'AllowAnonymous'
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: !empty(signInClientId)
        registration: {
          clientId: signInClientId
          clientSecretSettingName: identitySetting
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
      }
    }
    login: {
      tokenStore: {
        enabled: false
      }
    }
  }
}

@description('Name of the function app.')
output name string = app.name

@description('Resource id of the function app.')
output resourceId string = app.id

@description('Address of the function app, without a slash at the end.')
output baseUrl string = 'https://${app.properties.defaultHostName}'
