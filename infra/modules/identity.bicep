metadata name = 'Identity'
metadata description = 'The one user-assigned identity that the function app uses for everything.'

@description('Required. Name of the identity.')
param name string

@description('Required. Region.')
param location string

@description('Required. Tags of the resource.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

@description('Name of the identity.')
output name string = identity.name

@description('Object id that roles are assigned to.')
output principalId string = identity.properties.principalId
