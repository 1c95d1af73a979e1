/** The address of the SharedWorker's script; `vite.config.ts` says how it comes to be. */
declare module "virtual:worker" {
  const url: string;
  export default url;
}
