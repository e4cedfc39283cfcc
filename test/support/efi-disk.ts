/**
 * A disk with one EFI system partition (UEFI 2.10, 13.3) and one file on it, where firmware looks when nobody has told it what to boot:
 * `\EFI\BOOT\BOOTX64.EFI`. FAT16 (Microsoft, FAT32 File System Specification), made without any tool.
 */
const SECTOR = 512;
const PARTITION_AT = 64;
const FAT_SECTORS = 32;
const ROOT_ENTRIES = 512;
const DATA_AT = 1 + FAT_SECTORS + (ROOT_ENTRIES * 32) / SECTOR;
/** With fewer it would be read as FAT12. */
const CLUSTERS = 4096;
const PARTITION_SECTORS = DATA_AT + CLUSTERS;
const END_OF_CHAIN = 0xffff;
const DIRECTORY = 0x10;
const FIRST_CLUSTER = 2;

export function efiDisk(application: Buffer): Buffer {
  const disk = Buffer.alloc((PARTITION_AT + PARTITION_SECTORS) * SECTOR);
  writePartitionTable(disk);
  const partition = disk.subarray(PARTITION_AT * SECTOR);
  writeBootSector(partition);

  const [efi, boot, file] = [FIRST_CLUSTER, FIRST_CLUSTER + 1, FIRST_CLUSTER + 2];
  const fileClusters = Math.ceil(application.length / SECTOR);
  const fat = partition.subarray(SECTOR, (1 + FAT_SECTORS) * SECTOR);
  const last = file + fileClusters - 1;
  for (const cluster of [0, 1, efi, boot, last]) fat.writeUInt16LE(cluster === 0 ? 0xfff8 : END_OF_CHAIN, 2 * cluster);
  for (let cluster = file; cluster < last; cluster++) fat.writeUInt16LE(cluster + 1, 2 * cluster);

  const at = (cluster: number): Buffer => partition.subarray((DATA_AT + cluster - FIRST_CLUSTER) * SECTOR);
  entry(partition.subarray((1 + FAT_SECTORS) * SECTOR), 'EFI', efi);
  for (const [index, [name, cluster]] of [['.', efi] as const, ['..', 0] as const, ['BOOT', boot] as const].entries())
    entry(at(efi).subarray(32 * index), name, cluster);
  for (const [index, [name, cluster]] of [['.', boot] as const, ['..', efi] as const].entries())
    entry(at(boot).subarray(32 * index), name, cluster);
  entry(at(boot).subarray(64), 'BOOTX64 EFI', file, application.length);
  at(file).set(application);
  return disk;
}

/** One partition, of the type that belongs to firmware. */
function writePartitionTable(disk: Buffer): void {
  const first = 0x1be;
  disk[first + 4] = 0xef;
  disk.writeUInt32LE(PARTITION_AT, first + 8);
  disk.writeUInt32LE(PARTITION_SECTORS, first + 12);
  disk.set([0x55, 0xaa], 510);
}

function writeBootSector(partition: Buffer): void {
  partition.set([0xeb, 0x3c, 0x90]);
  partition.write('FAIRLEAD', 3);
  partition.writeUInt16LE(SECTOR, 11);
  partition[13] = 1; // sectors to a cluster
  partition.writeUInt16LE(1, 14); // this sector, before the FAT
  partition[16] = 1; // FATs
  partition.writeUInt16LE(ROOT_ENTRIES, 17);
  partition.writeUInt16LE(PARTITION_SECTORS, 19);
  partition[21] = 0xf8; // a fixed disk
  partition.writeUInt16LE(FAT_SECTORS, 22);
  partition.writeUInt32LE(PARTITION_AT, 28);
  partition[36] = 0x80;
  partition[38] = 0x29;
  partition.write('FAIRLEAD   FAT16   ', 43);
  partition.set([0x55, 0xaa], 510);
}

/** A directory's where `bytes` is not given. Names are of eleven characters, filled up with spaces. */
function entry(at: Buffer, name: string, cluster: number, bytes?: number): void {
  at.write(name.padEnd(11));
  at[11] = bytes === undefined ? DIRECTORY : 0;
  at.writeUInt16LE(cluster, 26);
  at.writeUInt32LE(bytes ?? 0, 28);
}
