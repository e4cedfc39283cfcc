/** The release, as package.json states it (a test holds the two together: reading the file would cost every start). */
export const VERSION = '0.1.0';
