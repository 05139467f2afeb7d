using 'main.bicep'

// A first deployment: every other parameter has a default.
param name = 'pbx'
param tags = {
  application: 'pbx-bridge'
}
param mediaCoolAfterDays = 30
