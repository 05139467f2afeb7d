metadata name = 'Logic Apps'
metadata description = 'Workflows from JSON files, each deployed by its flag, and the connections they share.'

@description('Required. Name that the resources\' names end with.')
param suffix string

@description('Required. Region.')
param location string

@description('Required. Tags of the resources.')
param tags object

@description('Required. Resource id of the workspace for the runs\' log.')
param workspaceId string

@description('Required. Address of our API, without a slash at the end.')
param apiUrl string

@description('Required. Key of our API.')
@secure()
param apiKey string

@description('Required. A missed call becomes a mail.')
param missedCallMail bool

@description('Required. A missed call becomes a Teams message.')
param missedCallTeams bool

@description('Required. An answered call becomes a row of an Excel table.')
param callLogExcel bool

@description('Required. A stored voicemail becomes a mail.')
param voicemailMail bool

@description('Required. A new contact is posted to a CRM.')
param newContactCrm bool

@description('Required. Recipient of the mails of workflows.')
param mailTo string

@description('Required. Group id of the team for the Teams message.')
param teamsGroupId string

@description('Required. Id of the channel for the Teams message.')
param teamsChannelId string

@description('Required. Time zone of the times that people read.')
param timeZone string

@description('Required. Location of the Excel file: me, groups/ID or sites/ID.')
param excelSource string

@description('Required. Id of the drive with the Excel file.')
param excelDriveId string

@description('Required. Id of the Excel file.')
param excelFileId string

@description('Required. Name of the table in the Excel file.')
param excelTable string

@description('Required. Address of the CRM for new contacts.')
param crmUrl string

@description('Required. Authorization header for the CRM.')
@secure()
param crmAuthorization string

// Apart from the rows below, so that no secret is part of the outputs.
var secureValues = {
  apiKey: apiKey
  crmAuthorization: crmAuthorization
}

var workflows = [
  {
    name: 'missedCallMail'
    enabled: missedCallMail
    definition: loadJsonContent('../workflows/missedCallMail.json')
    connectors: ['office365']
    secrets: ['apiKey']
    parameters: {
      timeZone: {
        value: timeZone
      }
      mailTo: {
        value: mailTo
      }
    }
  }
  {
    name: 'missedCallTeams'
    enabled: missedCallTeams
    definition: loadJsonContent('../workflows/missedCallTeams.json')
    connectors: ['teams']
    secrets: ['apiKey']
    parameters: {
      timeZone: {
        value: timeZone
      }
      teamsGroupId: {
        value: teamsGroupId
      }
      teamsChannelId: {
        value: teamsChannelId
      }
    }
  }
  {
    name: 'callLogExcel'
    enabled: callLogExcel
    definition: loadJsonContent('../workflows/callLogExcel.json')
    connectors: ['excelonlinebusiness']
    secrets: ['apiKey']
    parameters: {
      timeZone: {
        value: timeZone
      }
      excelSource: {
        value: excelSource
      }
      excelDriveId: {
        value: excelDriveId
      }
      excelFileId: {
        value: excelFileId
      }
      excelTable: {
        value: excelTable
      }
    }
  }
  {
    name: 'voicemailMail'
    enabled: voicemailMail
    definition: loadJsonContent('../workflows/voicemailMail.json')
    connectors: ['office365']
    secrets: ['apiKey']
    parameters: {
      timeZone: {
        value: timeZone
      }
      mailTo: {
        value: mailTo
      }
    }
  }
  {
    name: 'newContactCrm'
    enabled: newContactCrm
    definition: loadJsonContent('../workflows/newContactCrm.json')
    connectors: []
    secrets: ['apiKey', 'crmAuthorization']
    parameters: {
      crmUrl: {
        value: crmUrl
      }
    }
  }
]

var chosen = filter(workflows, workflow => workflow.enabled)
var connectors = union(flatten(map(chosen, workflow => workflow.connectors)), [])

// A connection works after somebody signs in to it in the portal.
resource connections 'Microsoft.Web/connections@2016-06-01' = [
  for connector in connectors: {
    name: '${connector}-${suffix}'
    location: location
    tags: tags
    properties: {
      displayName: connector
      api: {
        id: subscriptionResourceId('Microsoft.Web/locations/managedApis', location, connector)
      }
    }
  }
]

resource logicApps 'Microsoft.Logic/workflows@2019-05-01' = [
  for workflow in chosen: {
    name: 'logic-${workflow.name}-${suffix}'
    location: location
    tags: tags
    properties: {
      state: 'Enabled'
      definition: workflow.definition
      parameters: union(workflow.parameters, toObject(workflow.secrets, name => name, name => { value: secureValues[name] }), {
        apiUrl: {
          value: apiUrl
        }
        '$connections': {
          value: toObject(workflow.connectors, connector => connector, connector => {
            id: subscriptionResourceId('Microsoft.Web/locations/managedApis', location, connector)
            connectionId: resourceId('Microsoft.Web/connections', '${connector}-${suffix}')
            connectionName: '${connector}-${suffix}'
          })
        }
      })
    }
    dependsOn: [
      connections
    ]
  }
]

// Its stable versions are older and know no category groups.
#disable-next-line use-recent-api-versions
resource runLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (workflow, i) in chosen: {
    name: 'run-log'
    scope: logicApps[i]
    properties: {
      workspaceId: workspaceId
      logs: [
        {
          categoryGroup: 'allLogs'
          enabled: true
        }
      ]
    }
  }
]

@description('Names of the deployed workflows.')
output workflowNames array = [for workflow in chosen: 'logic-${workflow.name}-${suffix}']
