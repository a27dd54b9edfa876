/** What exists in the lab's vCenter. The Go program reads it as JSON (`scenario.go`); what is left out has a default there. */
export interface VsphereScenario {
  /** Default `administrator@vsphere.local`. */
  user?: string;
  /** Default: made at random when the state folder is new. */
  password?: string;
  /** `about.apiVersion`; default 6.5. */
  apiVersion?: string;
  /** Idle time after which a session ends, as a Go duration (`5s`); default never. */
  sessionTimeout?: string;
  /** Inventory path of the one datacenter, folders included, as the API shows it: `%` as `%25`. Default `DC0`. */
  datacenter?: string;
  /** ESXi hosts in the one cluster; default 1. */
  hosts?: number;
  /** Their names; default addresses of this machine, `127.0.0.1` first. */
  hostNames?: string[];
  /** The first one is where VMs live by default; default one VMFS named `datastore1`. */
  datastores?: { name: string; type?: 'VMFS' | 'NFS' | 'VVOL' | 'vsan' | 'PMEM'; freeSpace?: number }[];
  vms: VsphereVm[];
  /** Limits of one answer of QueryChangedDiskAreas: areas (default 2000) and bytes covered (0: no limit). */
  paging?: { extents?: number; span?: number };
}

/** State of VMware Tools in the guest. */
export type ToolsState = 'running' | 'stopped' | 'none';

export interface VsphereVm {
  name: string;
  instanceUuid?: string;
  datastore?: string;
  firmware?: 'bios' | 'efi';
  secureBoot?: boolean;
  vtpm?: boolean;
  /** VM home encrypted: `config.keyId` is set. */
  encrypted?: boolean;
  guestId?: string;
  hostName?: string;
  /** Hardware version; default `vmx-19`. */
  version?: string;
  cpus?: number;
  memoryMiB?: number;
  annotation?: string;
  poweredOn?: boolean;
  tools?: ToolsState;
  /** How long the guest takes to obey ShutdownGuest; negative: it ignores it. */
  shutdownSeconds?: number;
  changeTracking?: boolean;
  nics?: { type?: 'vmxnet3' | 'e1000' | 'e1000e'; network?: string; mac?: string; ips?: string[] }[];
  disks?: VsphereDisk[];
  /** CD drives; without `iso` they are empty. */
  cdroms?: { iso?: string }[];
  /** Further devices by vim25 type name, e.g. `VirtualPCIPassthrough`, `VirtualSerialPort`. */
  devices?: string[];
}

export interface VsphereDisk {
  /** Raw file whose content (and holes) the disk starts with. */
  file?: string;
  /** Multiple of 512; the disk is never smaller than `file`. */
  capacityBytes?: number;
  controller?: 'pvscsi' | 'lsilogic' | 'lsilogic-sas' | 'buslogic' | 'ide' | 'sata' | 'nvme';
  /** Default `persistent`. */
  mode?: 'persistent' | 'independent_persistent' | 'independent_nonpersistent' | 'nonpersistent';
  /** A raw device mapping instead of a virtual disk. */
  rdm?: 'physicalMode' | 'virtualMode';
  encrypted?: boolean;
  /** Several VMs may write (`sharingMultiWriter`). */
  multiWriter?: boolean;
  /** Bus sharing of its SCSI controller. */
  sharedBus?: 'physicalSharing' | 'virtualSharing';
  /** Never gets a changeId, whatever the VM's flag says. */
  noTracking?: boolean;
  /** A backing to show instead of what it is: a vim25 type the lab cannot make, and fields of it. */
  shown?: { type: string; fields?: Record<string, unknown> };
}
