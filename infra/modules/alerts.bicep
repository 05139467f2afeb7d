metadata name = 'Alerts'
metadata description = 'One table of figures, each watched by an alert and drawn in the workbook by the same query.'

@description('Required. Name that the resources\' names end with.')
param suffix string

@description('Required. Region.')
param location string

@description('Required. Tags of the resources.')
param tags object

@description('Required. Resource id of the workspace that is watched.')
param workspaceId string

@description('Required. Address that alerts are mailed to. Empty: alerts fire without a mail.')
param email string

// A figure with a measure sums (Total) or takes the highest (Maximum) of that column; one without counts rows.
var figures = [
  {
    name: 'deadLetters'
    title: 'Events given up and kept as dead letters'
    query: loadTextContent('../queries/deadLetters.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 1
    chart: 'timechart'
  }
  {
    name: 'pollsStale'
    title: 'Resources without a successful poll for 15 minutes'
    query: loadTextContent('../queries/pollsStale.kql')
    aggregation: 'Count'
    measure: ''
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 1
    chart: 'table'
  }
  {
    name: 'webhookLoss'
    title: 'Webhooks that never came, in percent of a day, over 5'
    query: loadTextContent('../queries/webhookLoss.kql')
    aggregation: 'Maximum'
    measure: 'Value'
    threshold: 5
    window: 'P1D'
    frequency: 'PT1H'
    severity: 2
    chart: 'timechart'
  }
  {
    name: 'webhooksSilent'
    title: 'Event types that have gone silent and were registered again'
    query: loadTextContent('../queries/webhooksSilent.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 2
    chart: 'timechart'
  }
  {
    name: 'deliveryFailures'
    title: 'Deliveries to subscribers that were given up'
    query: loadTextContent('../queries/deliveryFailures.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 2
    chart: 'timechart'
  }
  {
    name: 'budgetExhausted'
    title: 'Calls that the budget of 100 a minute turned away'
    query: loadTextContent('../queries/budgetExhausted.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 3
    chart: 'timechart'
  }
  {
    name: 'mediaWaiting'
    title: 'Recordings and voicemails waiting for over an hour'
    query: loadTextContent('../queries/mediaWaiting.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT1H'
    frequency: 'PT5M'
    severity: 2
    chart: 'timechart'
  }
  {
    name: 'mediaConflicts'
    title: 'Recordings and voicemails that came twice with different bytes'
    query: loadTextContent('../queries/mediaConflicts.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 3
    chart: 'timechart'
  }
  {
    name: 'serverErrors'
    title: 'HTTP answers of 500 and above'
    query: loadTextContent('../queries/serverErrors.kql')
    aggregation: 'Total'
    measure: 'Value'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 1
    chart: 'timechart'
  }
  {
    name: 'receiverLatency'
    title: 'Receivers, 95th percentile in milliseconds, over 1000'
    query: loadTextContent('../queries/receiverLatency.kql')
    aggregation: 'Maximum'
    measure: 'Value'
    threshold: 1000
    window: 'PT15M'
    frequency: 'PT5M'
    severity: 3
    chart: 'timechart'
  }
]

var workbookItems = [
  for figure in figures: {
    type: 3
    name: figure.name
    content: {
      version: 'KqlItem/1.0'
      title: figure.title
      query: figure.query
      size: 0
      timeContext: {
        durationMs: 604800000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      crossComponentResources: [workspaceId]
      visualization: figure.chart
    }
  }
]

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'pbx-bridge'
    enabled: true
    emailReceivers: empty(email) ? [] : [
      {
        name: 'mail'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for figure in figures: {
    name: '${figure.name}-${suffix}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: figure.title
      description: figure.title
      severity: figure.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: figure.frequency
      windowSize: figure.window
      criteria: {
        allOf: [
          {
            query: figure.query
            timeAggregation: figure.aggregation
            metricMeasureColumn: empty(figure.measure) ? null : figure.measure
            operator: 'GreaterThan'
            threshold: figure.threshold
            // More periods than one would widen what the query sees, which then is no longer the window.
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      autoMitigate: true
      // The tables come into being with the first log line, after this deployment.
      skipQueryValidation: true
      actions: {
        actionGroups: [actionGroup.id]
      }
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, suffix, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'PBX bridge ${suffix}'
    category: 'workbook'
    sourceId: workspaceId
    version: '1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      items: workbookItems
      fallbackResourceIds: [workspaceId]
      '$schema': 'https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json'
    })
  }
}
