import { failure } from '../shared/index.js';
import type { VmSummary } from '../vsphere/index.js';
import type { Context } from './context.js';
import { shellWord } from './gates.js';

export interface FoundVm {
  vcenter: string;
  vm: VmSummary;
}

/** Every VM of the configured vCenters, or of the one named. */
export async function listVms(context: Context, vcenter?: string): Promise<FoundVm[]> {
  const names = vcenter === undefined ? Object.keys(context.config().vcenters) : [vcenter];
  const deps = await context.deps();
  const lists = names.map(async (name) => (await deps.vsphere(name).listVms()).map((vm) => ({ vcenter: name, vm })));
  return (await Promise.all(lists)).flat();
}

/**
 * The one VM of that name or MoRef.
 *
 * @throws SourceNotFound when there is none, UsageInvalid listing all when there are several.
 */
export async function findVm(context: Context, text: string, vcenter?: string): Promise<FoundVm> {
  const all = await listVms(context, vcenter);
  const matches = all.filter(({ vm }) => vm.moRef === text || vm.name === text);
  const [first, ...others] = matches;
  if (first === undefined) {
    throw failure('SourceNotFound', {
      what: `No VM is called "${text}"${vcenter === undefined ? '' : ` in ${vcenter}`}.`,
      why: `${all.length} VMs were looked at; names are compared exactly.`,
      next: 'see `surefire inventory`.',
    });
  }
  if (others.length > 0) {
    const listed = matches.map(({ vcenter: at, vm }) => `${vm.moRef} (${at}, folder ${vm.folderPath})`).join(', ');
    const elsewhere = matches.some((match) => match.vcenter !== first.vcenter);
    throw failure('UsageInvalid', {
      what: `VM "${text}" matches ${matches.length} machines: ${listed}.`,
      next: `use the MoRef: \`surefire migrate ${first.vm.moRef}${elsewhere ? ` --vcenter ${shellWord(first.vcenter)}` : ''}\`.`,
    });
  }
  return first;
}
