export default function Page() {
  return <h1>stand-in UI</h1>;
}
