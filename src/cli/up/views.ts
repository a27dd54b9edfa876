/** Lists an operator looks at first. Opening such a link stores it among the Web UI's views: they live in the browser. */
const VIEWS = [
  ['waiting for people', 'WaitingFor != "none" AND ExecutionStatus = "Running"'],
  ['in cutover', 'MigrationStage = "cutover" AND ExecutionStatus = "Running"'],
  ['paused', 'TemporalPauseInfo IS NOT NULL'],
  ['workers report problems', 'TemporalReportedProblems IS NOT NULL'],
] as const;

export function savedViews(webUrl: string, namespace: string): { name: string; url: string }[] {
  return VIEWS.map(([name, query]) => ({
    name,
    url: `${webUrl}/namespaces/${namespace}/workflows?query=${encodeURIComponent(query)}&savedQuery=${encodeURIComponent(name)}`,
  }));
}
