/** Thrown by a command that this agent has begun and the next one ends: its record stays open, and whoever waits is told that the line breaks. */
import { FairleadError } from '../../shared/errors.ts';

export class HandOver extends FairleadError {
  constructor(why: string) {
    super('INTERRUPTED', `${why}: ask its successor what became of it`);
  }
}
