// Where things are: the repository and what was built.
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
export const build = path.resolve(process.env.PTQ_BUILD ?? path.join(root, "build"));
export const demo = (name) => path.join(root, "demo", name);
