metadata name = 'Network'
metadata description = 'A virtual network with one address towards the PBX, and private endpoints for the accounts and the vault.'

@description('Required. Name that the resources\' names end with.')
param suffix string

@description('Required. Region.')
param location string

@description('Required. Tags of the resources.')
param tags object

@description('Required. Address range of the network, /24 or larger.')
param addressPrefix string

@description('Required. Resource id of the account of events and media.')
param dataStorageId string

@description('Required. Resource id of the account of the Functions host.')
param hostStorageId string

@description('Required. Resource id of the vault.')
param keyVaultId string

var storageServices = ['blob', 'queue', 'table']
var zoneNames = union(
  toObject(storageServices, service => service, service => 'privatelink.${service}.${environment().suffixes.storage}'),
  // A vault's public name and its private zone have different suffixes.
  { vault: 'privatelink.vaultcore.azure.net' }
)
var zoneRows = items(zoneNames)
var targets = concat(
  map(storageServices, service => { name: service, service: service, id: dataStorageId }),
  map(storageServices, service => { name: 'host-${service}', service: service, id: hostStorageId }),
  [{ name: 'vault', service: 'vault', id: keyVaultId }]
)

resource securityGroup 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: 'nsg-${suffix}'
  location: location
  tags: tags
}

resource publicAddress 'Microsoft.Network/publicIPAddresses@2025-05-01' = {
  name: 'pip-${suffix}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAddressVersion: 'IPv4'
    publicIPAllocationMethod: 'Static'
  }
}

resource gateway 'Microsoft.Network/natGateways@2025-05-01' = {
  name: 'ng-${suffix}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    idleTimeoutInMinutes: 4
    publicIpAddresses: [
      {
        id: publicAddress.id
      }
    ]
  }
}

resource virtualNetwork 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: 'vnet-${suffix}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [addressPrefix]
    }
    subnets: [
      {
        name: 'functions'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 0)
          defaultOutboundAccess: false
          delegations: [
            {
              name: 'functions'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
          natGateway: {
            id: gateway.id
          }
          networkSecurityGroup: {
            id: securityGroup.id
          }
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 1)
          defaultOutboundAccess: false
          networkSecurityGroup: {
            id: securityGroup.id
          }
        }
      }
    ]
  }
}

resource functionsSubnet 'Microsoft.Network/virtualNetworks/subnets@2025-05-01' existing = {
  parent: virtualNetwork
  name: 'functions'
}

resource endpointsSubnet 'Microsoft.Network/virtualNetworks/subnets@2025-05-01' existing = {
  parent: virtualNetwork
  name: 'endpoints'
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for row in zoneRows: {
    name: row.value
    location: 'global'
    tags: tags
  }
]

resource zones_links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (row, i) in zoneRows: {
    parent: zones[i]
    name: '${row.key}-${suffix}'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: virtualNetwork.id
      }
    }
  }
]

resource endpoints 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for target in targets: {
    name: 'pe-${target.name}-${suffix}'
    location: location
    tags: tags
    properties: {
      privateLinkServiceConnections: [
        {
          name: target.name
          properties: {
            groupIds: [target.service]
            privateLinkServiceId: target.id
          }
        }
      ]
      subnet: {
        id: endpointsSubnet.id
      }
    }
  }
]

resource endpoints_zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (target, i) in targets: {
    parent: endpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: target.service
          properties: {
            privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', zoneNames[target.service])
          }
        }
      ]
    }
    dependsOn: [
      zones
    ]
  }
]

@description('Resource id of the subnet that the function app calls out from.')
output functionsSubnetId string = functionsSubnet.id

@description('The one address that the app calls the PBX from.')
output ipAddress string = publicAddress.properties.ipAddress
