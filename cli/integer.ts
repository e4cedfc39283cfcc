/** Whole numbers on the command line, refused where they are written and not as a `null` far away. */
import { InvalidArgumentError } from 'commander';

/** @throws InvalidArgumentError, which commander reports with the option's name. */
export function parseInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('Write a whole number.');
  return value;
}
