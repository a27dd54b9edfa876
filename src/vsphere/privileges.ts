import type { Finding } from '../shared/findings.js';
import { explained, isFault, type Context } from './operations.js';
import { readObject } from './properties.js';

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

/**
 * What forbids the plan on the whole server (S72): rights that the account lacks, asked at the root folder, and a licence
 * that allows no changes. Nothing is tried.
 */
export async function checkPrivileges(context: Context): Promise<Finding[]> {
  return explained('Asking for the rights of the account failed.', async () => [
    ...(await missingRights(context)),
    ...(await readOnlyLicence(context)),
  ]);
}

async function missingRights({ session }: Context): Promise<Finding[]> {
  const { authorizationManager, rootFolder } = await session.content();
  const allowed = await session.call<boolean[]>('HasPrivilegeOnEntity', authorizationManager, {
    entity: rootFolder,
    sessionId: await session.key(),
    privId: NEEDED.map(([privilege]) => privilege),
  });
  const missing = NEEDED.filter((_needed, index) => allowed[index] !== true);
  return missing.map(([privilege, purpose]) => ({
    code: 'P1',
    severity: 'error',
    object: privilege,
    observed: `The account may not ${purpose}.`,
    expected: `the right ${privilege}`,
    remedy: 'give the right to the account at the root, inherited (docs/privileges.md).',
  }));
}

/** The free edition of ESXi answers questions and refuses every change (`RestrictedVersion`). It joins no vCenter. */
async function readOnlyLicence({ session }: Context): Promise<Finding[]> {
  const { about, licenseManager } = await session.content();
  if (about.apiType !== 'HostAgent') return [];
  const licences: Record<string, unknown> = await readObject(session, licenseManager, ['licenses']).catch(
    (error: unknown) => {
      // Who may not look at licences learns of it from the first snapshot.
      if (isFault(error, 'NoPermission')) return {};
      throw error;
    },
  );
  const free = ((licences['licenses'] ?? []) as { editionKey: string; name: string }[]).find(
    ({ editionKey }) => editionKey === 'esxBasic',
  );
  if (!free) return [];
  return [
    {
      code: 'P2',
      severity: 'error',
      object: about.fullName,
      observed: `Its licence "${free.name}" allows no changes by API, so no snapshot either.`,
      expected: 'an evaluation or a paid licence',
      remedy: 'assign such a licence to the host for the time of the migration.',
    },
  ];
}
