export declare const layers: readonly (readonly string[])[];
export declare function layersOf(path: string): number[];
