using '../../infra/main.bicep'

param name = 'pbx'
param boardSignIn = 'entra'
param boardClientId = '00000000-0000-0000-0000-000000000003'
param deployNetwork = true
param mediaCoolAfterDays = 60
param mediaRetentionDays = 1095
param recordingImmutabilityDays = 365
param alwaysReadyInstanceCount = 1
param alertEmail = 'operations@example.com'
param monthlyBudget = 200
param deployLogicApps = true
param missedCallMail = true
param missedCallTeams = true
param callLogExcel = true
param voicemailMail = true
param newContactCrm = true
param workflowMailTo = 'reception@example.com'
param teamsGroupId = '00000000-0000-0000-0000-000000000004'
param teamsChannelId = '19:channel@thread.tacv2'
param excelSource = 'sites/example.sharepoint.com'
param excelDriveId = 'drive'
param excelFileId = 'file'
param crmUrl = 'https://crm.example.com/contacts'
