/**
 * The one table of what we say to vSphere: operations with their parameters in order, and data types with their fields
 * in order. The WSDL, the builder of requests and the normaliser of answers are all made from it.
 *
 * A field is `name type`; `?` after the name is optional, `*` repeats. Order matters: a server refuses elements that are
 * out of the schema's order. For types we only read, fields that nobody reads may be left out.
 *
 * Source: vSphere Web Services API reference, vim25 (order as in the service's schema).
 */
export interface OperationShape {
  /** Managed object type of `_this`. */
  on: string;
  takes?: string;
  /** A type, `type*` when it repeats, or nothing when the answer is empty. */
  returns?: string;
}

export const OPERATIONS = {
  RetrieveServiceContent: { on: 'ServiceInstance', returns: 'ServiceContent' },
  CurrentTime: { on: 'ServiceInstance', returns: 'dateTime' },
  Login: { on: 'SessionManager', takes: 'userName string, password string, locale? string', returns: 'UserSession' },
  Logout: { on: 'SessionManager' },
  CreateContainerView: {
    on: 'ViewManager',
    takes: 'container MoRef, type* string, recursive boolean',
    returns: 'MoRef',
  },
  DestroyView: { on: 'ContainerView' },
  RetrievePropertiesEx: {
    on: 'PropertyCollector',
    takes: 'specSet* PropertyFilterSpec, options RetrieveOptions',
    returns: 'RetrieveResult',
  },
  ContinueRetrievePropertiesEx: { on: 'PropertyCollector', takes: 'token string', returns: 'RetrieveResult' },
  FindByUuid: {
    on: 'SearchIndex',
    takes: 'datacenter? MoRef, uuid string, vmSearch boolean, instanceUuid? boolean',
    returns: 'MoRef',
  },
  HasPrivilegeOnEntity: {
    on: 'AuthorizationManager',
    takes: 'entity MoRef, sessionId string, privId* string',
    returns: 'boolean*',
  },
  QueryEvents: { on: 'EventManager', takes: 'filter EventFilterSpec', returns: 'Event*' },
  CreateSnapshot_Task: {
    on: 'VirtualMachine',
    takes: 'name string, description? string, memory boolean, quiesce boolean',
    returns: 'MoRef',
  },
  RemoveSnapshot_Task: {
    on: 'VirtualMachineSnapshot',
    takes: 'removeChildren boolean, consolidate? boolean',
    returns: 'MoRef',
  },
  RevertToSnapshot_Task: {
    on: 'VirtualMachineSnapshot',
    takes: 'host? MoRef, suppressPowerOn? boolean',
    returns: 'MoRef',
  },
  ConsolidateVMDisks_Task: { on: 'VirtualMachine', returns: 'MoRef' },
  ReconfigVM_Task: { on: 'VirtualMachine', takes: 'spec VirtualMachineConfigSpec', returns: 'MoRef' },
  QueryChangedDiskAreas: {
    on: 'VirtualMachine',
    takes: 'snapshot? MoRef, deviceKey int, startOffset long, changeId string',
    returns: 'DiskChangeInfo',
  },
  ShutdownGuest: { on: 'VirtualMachine' },
  PowerOffVM_Task: { on: 'VirtualMachine', returns: 'MoRef' },
  PowerOnVM_Task: { on: 'VirtualMachine', takes: 'host? MoRef', returns: 'MoRef' },
} as const satisfies Record<string, OperationShape>;

export type OperationName = keyof typeof OPERATIONS;

export interface TypeShape {
  base?: string;
  fields: string;
}

const type = (fields: string, base?: string): TypeShape => ({ fields, base });

/** Types that answers and requests are made of. `MoRef` and the scalars are built in. */
export const TYPES: Record<string, TypeShape> = {
  // Session
  ServiceContent: type(
    'rootFolder MoRef, propertyCollector MoRef, viewManager? MoRef, about AboutInfo, sessionManager? MoRef, ' +
      'authorizationManager? MoRef, eventManager? MoRef, searchIndex? MoRef',
  ),
  AboutInfo: type(
    'name string, fullName string, build string, apiType string, apiVersion string, instanceUuid? string',
  ),
  UserSession: type('key string, userName string'),

  // Properties
  PropertyFilterSpec: type('propSet* PropertySpec, objectSet* ObjectSpec, reportMissingObjectsInResults? boolean'),
  PropertySpec: type('type string, all? boolean, pathSet* string'),
  ObjectSpec: type('obj MoRef, skip? boolean, selectSet* SelectionSpec'),
  SelectionSpec: type('name? string'),
  TraversalSpec: type('type string, path string, skip? boolean, selectSet* SelectionSpec', 'SelectionSpec'),
  RetrieveOptions: type('maxObjects? int'),
  RetrieveResult: type('token? string, objects* ObjectContent'),
  ObjectContent: type('obj MoRef, propSet* DynamicProperty, missingSet* MissingProperty'),
  DynamicProperty: type('name string, val anyType'),
  MissingProperty: type('path string, fault LocalizedMethodFault'),
  LocalizedMethodFault: type('fault MethodFault, localizedMessage? string'),
  MethodFault: type(''),

  // Tasks and events
  TaskInfo: type(
    'key string, task MoRef, name? string, descriptionId string, entity? MoRef, entityName? string, state string, ' +
      'cancelled boolean, error? LocalizedMethodFault, result? anyType, progress? int, queueTime dateTime, ' +
      'startTime? dateTime, completeTime? dateTime',
  ),
  EventFilterSpec: type(
    'entity? EventFilterSpecByEntity, time? EventFilterSpecByTime, disableFullMessage? boolean, maxCount? int',
  ),
  EventFilterSpecByEntity: type('entity MoRef, recursion string'),
  EventFilterSpecByTime: type('beginTime? dateTime, endTime? dateTime'),
  Event: type('key int, chainId int, createdTime dateTime, userName string, fullFormattedMessage? string'),

  // Virtual machine: what we set
  VirtualMachineConfigSpec: type('changeVersion? string, extraConfig* OptionValue, changeTrackingEnabled? boolean'),
  OptionValue: type('key string, value anyType'),

  // Virtual machine: what we read
  VirtualMachineConfigInfo: type('hardware VirtualHardware, changeTrackingEnabled? boolean'),
  VirtualHardware: type('numCPU int, numCoresPerSocket? int, memoryMB int, device* VirtualDevice'),
  VirtualMachineQuestionInfo: type('id string, text string'),
  FaultToleranceConfigInfo: type('role int'),
  CryptoKeyId: type('keyId string'),
  GuestNicInfo: type('network? string, ipAddress* string, macAddress? string, connected boolean, deviceConfigId int'),
  VirtualMachineSnapshotInfo: type('currentSnapshot? MoRef, rootSnapshotList* VirtualMachineSnapshotTree'),
  VirtualMachineSnapshotTree: type(
    'snapshot MoRef, vm MoRef, name string, description string, createTime dateTime, ' +
      'childSnapshotList* VirtualMachineSnapshotTree',
  ),
  VirtualMachineFileLayoutExFileInfo: type('key int, name string, type string, size long, accessible? boolean'),
  DatastoreSummary: type('name string, capacity long, freeSpace long, accessible boolean, type string'),
  DiskChangeInfo: type('startOffset long, length long, changedArea* DiskChangeExtent'),
  DiskChangeExtent: type('start long, length long'),

  // Devices
  VirtualDevice: type(
    'key int, deviceInfo? Description, backing? VirtualDeviceBackingInfo, connectable? VirtualDeviceConnectInfo, ' +
      'controllerKey? int, unitNumber? int',
  ),
  Description: type('label string, summary string'),
  VirtualDeviceConnectInfo: type('startConnected boolean, connected boolean'),
  VirtualDisk: type(
    'capacityInKB long, capacityInBytes? long, diskObjectId? string, nativeUnmanagedLinkedClone? boolean',
    'VirtualDevice',
  ),
  VirtualController: type('busNumber int', 'VirtualDevice'),
  VirtualSCSIController: type('sharedBus? string', 'VirtualController'),
  ParaVirtualSCSIController: type('', 'VirtualSCSIController'),
  VirtualLsiLogicController: type('', 'VirtualSCSIController'),
  VirtualLsiLogicSASController: type('', 'VirtualSCSIController'),
  VirtualBusLogicController: type('', 'VirtualSCSIController'),
  VirtualIDEController: type('', 'VirtualController'),
  VirtualSATAController: type('', 'VirtualController'),
  VirtualAHCIController: type('', 'VirtualSATAController'),
  VirtualNVMEController: type('sharedBus? string', 'VirtualController'),
  VirtualEthernetCard: type('macAddress? string', 'VirtualDevice'),
  VirtualVmxnet: type('', 'VirtualEthernetCard'),
  VirtualVmxnet2: type('', 'VirtualVmxnet'),
  VirtualVmxnet3: type('', 'VirtualVmxnet'),
  VirtualE1000: type('', 'VirtualEthernetCard'),
  VirtualE1000e: type('', 'VirtualEthernetCard'),
  VirtualPCNet32: type('', 'VirtualEthernetCard'),
  VirtualSriovEthernetCard: type('', 'VirtualEthernetCard'),
  VirtualCdrom: type('', 'VirtualDevice'),
  VirtualTPM: type('', 'VirtualDevice'),

  // Backings
  VirtualDeviceBackingInfo: type(''),
  VirtualDeviceFileBackingInfo: type(
    'fileName string, datastore? MoRef, backingObjectId? string',
    'VirtualDeviceBackingInfo',
  ),
  VirtualCdromIsoBackingInfo: type('', 'VirtualDeviceFileBackingInfo'),
  VirtualDeviceDeviceBackingInfo: type('deviceName string', 'VirtualDeviceBackingInfo'),
  VirtualEthernetCardNetworkBackingInfo: type('network? MoRef', 'VirtualDeviceDeviceBackingInfo'),
  VirtualEthernetCardDistributedVirtualPortBackingInfo: type(
    'port DistributedVirtualSwitchPortConnection',
    'VirtualDeviceBackingInfo',
  ),
  DistributedVirtualSwitchPortConnection: type('switchUuid string, portgroupKey? string, portKey? string'),
  VirtualEthernetCardOpaqueNetworkBackingInfo: type(
    'opaqueNetworkId string, opaqueNetworkType string',
    'VirtualDeviceBackingInfo',
  ),
  VirtualDiskFlatVer2BackingInfo: type(
    'diskMode string, thinProvisioned? boolean, uuid? string, changeId? string, ' +
      'parent? VirtualDiskFlatVer2BackingInfo, sharing? string, keyId? CryptoKeyId',
    'VirtualDeviceFileBackingInfo',
  ),
  VirtualDiskFlatVer1BackingInfo: type(
    'diskMode string, parent? VirtualDiskFlatVer1BackingInfo',
    'VirtualDeviceFileBackingInfo',
  ),
  VirtualDiskSeSparseBackingInfo: type(
    'diskMode string, uuid? string, changeId? string, parent? VirtualDiskSeSparseBackingInfo, keyId? CryptoKeyId',
    'VirtualDeviceFileBackingInfo',
  ),
  VirtualDiskSparseVer1BackingInfo: type(
    'diskMode string, parent? VirtualDiskSparseVer1BackingInfo',
    'VirtualDeviceFileBackingInfo',
  ),
  VirtualDiskSparseVer2BackingInfo: type(
    'diskMode string, uuid? string, changeId? string, parent? VirtualDiskSparseVer2BackingInfo, keyId? CryptoKeyId',
    'VirtualDeviceFileBackingInfo',
  ),
  VirtualDiskRawDiskMappingVer1BackingInfo: type(
    'lunUuid? string, deviceName? string, compatibilityMode? string, diskMode? string, uuid? string, ' +
      'changeId? string, parent? VirtualDiskRawDiskMappingVer1BackingInfo, sharing? string',
    'VirtualDeviceFileBackingInfo',
  ),
  VirtualDiskRawDiskVer2BackingInfo: type(
    'descriptorFileName string, uuid? string, changeId? string, sharing? string',
    'VirtualDeviceDeviceBackingInfo',
  ),
  VirtualDiskPartitionedRawDiskVer2BackingInfo: type('', 'VirtualDiskRawDiskVer2BackingInfo'),
  VirtualDiskLocalPMemBackingInfo: type('diskMode string, uuid? string', 'VirtualDeviceFileBackingInfo'),
};
