/** What each stage is for, in the words of somebody who explains it to a colleague. */
export const WHY: Record<string, string> = {
  preflight: 'Both sides are inspected; nothing is changed.',
  'clear-snapshots': 'No old snapshot may stay, and vSphere is told to track which blocks change.',
  'baseline-snapshot': 'A point to go back to, should the guest not survive the removal of VMware Tools.',
  'tools-removal': 'VMware Tools must be gone before the copy is made; a word is not enough, vSphere has to agree.',
  'clean-snapshot': 'The instant that the first copy shows, for all disks at once.',
  'base-copy': 'While the VM goes on serving, its allocated blocks travel to a VM that nobody can start yet.',
  'test-copy': 'A clone of the copy boots on a network without a way out. The copy itself is never booted.',
  verification: 'A person looks at the test copy and says whether it works.',
  'remove-test-copy': 'The clone goes, and its space comes back.',
  'cutover-approval': 'From here on there is an outage, so a person says when.',
  cutover: 'The source is shut down, only what changed since the copy travels, and the target starts.',
  acceptance: 'The target serves. Meanwhile every byte of it is read back and compared.',
  finish: 'The source is marked, our snapshots go, nothing is left behind.',
  'rolling-back': 'Everything that was done is undone, newest first.',
};
