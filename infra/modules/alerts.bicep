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

@description('Required. Address for alerts. Empty: no alert rules, only the workbook.')
param email string

@description('Required. Schedules of the timers: name of the setting to NCRONTAB text.')
param schedules object

@description('Optional. Monthly budget. At half of it and at all of it the address gets a mail. Null: no budget.')
param monthlyBudget int?

@description('Required. First day of the budget.')
param budgetStart string

// The longest pause between two values of a schedule field of `values` values: for *, a start with a step, or one value.
func pause(field string, values int) int =>
  field == '*'
    ? 1
    : contains(field, '/') && !contains(field, '-') && !contains(field, ',')
        ? stepped(startOf(split(field, '/')[0]), int(split(field, '/')[1]), values)
        : values

func startOf(text string) int => text == '*' ? 0 : int(text)

// The pause from the last value of an hour or day to the first of the next may be longer than a step.
func stepped(start int, step int, values int) int => max(step, values - step * ((values - 1 - start) / step))

// The longest pause between two runs in minutes, read from the minute and the hour of a schedule.
func minutesBetween(schedule string) int =>
  split(schedule, ' ')[2] == '*' ? pause(split(schedule, ' ')[1], 60) : 60 * pause(split(schedule, ' ')[2], 24)

// Two runs may fail before an alert; a rule looks back two days at most.
func limitOf(schedule string) int => max(15, min(2880, 2 * minutesBetween(schedule) + 5))

func titled(word string) string => '${toUpper(substring(word, 0, 1))}${toLower(substring(word, 1))}'

// A rule cannot look back far enough for timers that run less than daily.
var watched = filter(items(schedules), row => endsWith(row.value, ' * * *') && length(split(row.value, ' ')) == 6)
var polls = map(filter(watched, row => startsWith(row.key, 'POLL_')), row => {
  name: 'Poll${join(map(split(replace(substring(row.key, 5), '_SCHEDULE', ''), '_'), word => titled(word)), '')}'
  resource: toLower(replace(substring(row.key, 5), '_SCHEDULE', ''))
  minutes: limitOf(row.value)
})

// The windows that Azure allows for a rule.
var windows = concat(
  map([15, 30, 45], minutes => { minutes: minutes, text: 'PT${minutes}M' }),
  map(range(1, 6), hours => { minutes: 60 * hours, text: 'PT${hours}H' }),
  map([1, 2], days => { minutes: 1440 * days, text: 'P${days}D' })
)
var slowest = max(concat([15], map(polls, poll => poll.minutes)))
var quickest = min(concat([2880], map(watched, row => limitOf(row.value))))
var slowestWindow = filter(windows, window => window.minutes >= slowest)[0].text
var quickestWindow = filter(windows, window => window.minutes >= quickest)[0].text
var pollsExample = '[{"name": "PollContacts", "resource": "contacts", "minutes": 15}]'

// Most figures count the log lines in a window that begin with the name of a signal.
var usual = {
  query: ''
  signals: []
  aggregation: 'Total'
  measure: 'Value'
  threshold: 0
  window: 'PT15M'
  frequency: 'PT5M'
  severity: 2
  chart: 'timechart'
}
var signalQuery = loadTextContent('../queries/signals.kql')
var signalExample = 'Message startswith "signal dead_letter "'

// A figure with a measure sums (Total) or takes the highest (Maximum) of that column; one without counts rows.
var rows = [
  {
    name: 'deadLetters'
    title: 'Events given up and kept as dead letters'
    signals: ['dead_letter']
    severity: 1
  }
  {
    name: 'pollsStale'
    title: 'Polls without success for longer than two of their schedules, and 15 minutes'
    query: replace(loadTextContent('../queries/pollsStale.kql'), pollsExample, string(polls))
    aggregation: 'Count'
    measure: ''
    window: slowestWindow
    severity: 1
    chart: 'table'
  }
  {
    name: 'webhookLoss'
    title: 'Webhooks that never came, in percent of a day, over 5'
    query: loadTextContent('../queries/webhookLoss.kql')
    aggregation: 'Maximum'
    threshold: 5
    window: 'P1D'
    frequency: 'PT1H'
    chart: 'table'
  }
  {
    name: 'webhooksSilent'
    title: 'Event types of whose webhooks most never came'
    signals: ['webhook_silent']
  }
  {
    name: 'deliveryFailures'
    title: 'Deliveries to subscribers that were given up'
    signals: ['delivery_failed', 'subscription_disabled', 'subscription_ended', 'subscription_unreadable']
  }
  {
    name: 'budgetExhausted'
    title: 'Calls that the budget of 100 a minute turned away'
    signals: ['budget_exhausted']
    severity: 3
  }
  {
    name: 'mediaWaiting'
    title: 'Recordings and voicemails waiting for over an hour, or kept without all of their bytes'
    signals: ['media_waiting', 'media_incomplete']
    window: 'PT1H'
  }
  {
    name: 'mediaConflicts'
    title: 'Recordings and voicemails that came twice with different bytes'
    signals: ['media_conflict']
    severity: 3
  }
  {
    name: 'serverErrors'
    title: 'HTTP answers of 500 and above'
    query: loadTextContent('../queries/serverErrors.kql')
    severity: 1
  }
  {
    name: 'receiverLatency'
    title: 'Receivers, 95th percentile in milliseconds, over 1000'
    query: loadTextContent('../queries/receiverLatency.kql')
    aggregation: 'Maximum'
    threshold: 1000
    severity: 3
  }
  {
    name: 'appSilent'
    title: 'Nothing has run at all'
    query: loadTextContent('../queries/appSilent.kql')
    aggregation: 'Count'
    measure: ''
    window: quickestWindow
    severity: 1
    chart: 'table'
  }
  {
    name: 'timersFailing'
    title: 'Runs of timers that failed, but for polls'
    query: loadTextContent('../queries/timersFailing.kql')
  }
  {
    name: 'pbxForbids'
    title: 'Methods that the PBX does not grant to the key'
    signals: ['pbx_forbidden']
  }
  {
    name: 'dialLimits'
    title: 'Calls that were not rung: the limit of an hour, or a number that may not be dialled'
    signals: ['dial_limit']
  }
]
var figures = map(map(rows, row => { ...usual, ...row }), figure => {
  ...figure
  query: empty(figure.signals)
    ? figure.query
    : replace(
        signalQuery,
        signalExample,
        join(map(figure.signals, name => 'Message startswith "signal ${name} "'), ' or ')
      )
})

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

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: 'ag-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'pbx-bridge'
    enabled: true
    emailReceivers: [
      {
        name: 'mail'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

// Newer stable versions are some months old, and not yet in every region.
#disable-next-line use-recent-api-versions
resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for figure in empty(email) ? [] : figures: {
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
            // With more periods the query would see more than the window.
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      autoMitigate: true
      // The tables do not exist before the first log line, after this deployment.
      skipQueryValidation: true
      actions: {
        actionGroups: [actionGroup.id]
      }
    }
  }
]

// Azure refuses to change the start of a budget, so an existing one is left alone. Another amount or address makes
// another budget; the old one stays until it is deleted.
// Newer stable versions are some months old, and not yet in every region.
@onlyIfNotExists()
#disable-next-line use-recent-api-versions
resource budget 'Microsoft.Consumption/budgets@2024-08-01' = if (monthlyBudget != null && !empty(email)) {
  name: 'budget-${suffix}-${uniqueString(string(monthlyBudget), email)}'
  properties: {
    amount: monthlyBudget!
    category: 'Cost'
    timeGrain: 'Monthly'
    timePeriod: {
      startDate: budgetStart
    }
    notifications: {
      half: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 50
        thresholdType: 'Actual'
        contactEmails: [email]
      }
      whole: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Actual'
        contactEmails: [email]
      }
    }
  }
}

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
