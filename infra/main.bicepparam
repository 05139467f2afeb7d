using 'main.bicep'

// A first deployment: everything else has a default that fits it.
param name = 'pbx'
param tags = {
  application: 'pbx-bridge'
}
param mediaCoolAfterDays = 30
