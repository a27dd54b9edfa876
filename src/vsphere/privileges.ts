import type { Finding } from '../shared/findings.js';
import { explained, type Context } from './operations.js';

/** What the plan does on the source, and the right it needs. */
const NEEDED: [privilege: string, purpose: string][] = [
  ['VirtualMachine.State.CreateSnapshot', 'take snapshots'],
  ['VirtualMachine.State.RemoveSnapshot', 'remove its snapshots'],
  ['VirtualMachine.State.RevertToSnapshot', 'return to the starting point'],
  ['VirtualMachine.Config.ChangeTracking', 'switch change tracking on'],
  ['VirtualMachine.Config.AdvancedConfig', 'mark the migrated VM'],
  ['VirtualMachine.Interact.PowerOn', 'power the source on again'],
  ['VirtualMachine.Interact.PowerOff', 'shut the source down'],
  ['VirtualMachine.Provisioning.DiskRandomRead', 'read disks and ask what changed'],
  ['VirtualMachine.Provisioning.GetVmFiles', 'read disks over https'],
  ['Datastore.Browse', 'find the files of disks'],
  ['Datastore.FileManagement', 'read files of a datastore'],
];

/** Asks the server which rights the plan needs and the account lacks (S72), at the root folder, without trying anything. */
export async function checkPrivileges({ session }: Context): Promise<Finding[]> {
  return explained('Asking for the rights of the account failed.', async () => {
    const { authorizationManager, rootFolder } = await session.content();
    const allowed = await session.call<boolean[]>('HasPrivilegeOnEntity', authorizationManager, {
      entity: rootFolder,
      sessionId: await session.key(),
      privId: NEEDED.map(([privilege]) => privilege),
    });
    return NEEDED.flatMap(([privilege, purpose], index): Finding[] =>
      allowed[index] === true
        ? []
        : [
            {
              code: 'P1',
              severity: 'error',
              object: privilege,
              observed: `The account may not ${purpose}.`,
              expected: `the right ${privilege}`,
              remedy: 'give the right to the account at the root, inherited (docs/privileges.md).',
            },
          ],
    );
  });
}
