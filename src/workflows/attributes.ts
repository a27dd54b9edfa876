import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';

/** Search attributes: what an operator must see in the Web UI's list (design 11). Registered at every start. */
export const ATTRIBUTES = {
  stage: defineSearchAttributeKey('MigrationStage', SearchAttributeType.KEYWORD),
  waitingFor: defineSearchAttributeKey('WaitingFor', SearchAttributeType.KEYWORD),
  sourceVm: defineSearchAttributeKey('SourceVm', SearchAttributeType.KEYWORD),
  vcenter: defineSearchAttributeKey('SourceVcenter', SearchAttributeType.KEYWORD),
  pool: defineSearchAttributeKey('TargetPool', SearchAttributeType.KEYWORD),
  wave: defineSearchAttributeKey('MigrationWave', SearchAttributeType.KEYWORD),
  outcome: defineSearchAttributeKey('MigrationOutcome', SearchAttributeType.KEYWORD),
  diskGiB: defineSearchAttributeKey('DiskGiB', SearchAttributeType.INT),
  stageSince: defineSearchAttributeKey('StageSince', SearchAttributeType.DATETIME),
} as const;
