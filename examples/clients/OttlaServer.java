import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

/** An Ottla for the time of a test class; `bootstrap` goes into bootstrap.servers. */
public final class OttlaServer implements AutoCloseable {
  public final String bootstrap;
  private final Process process;

  /** Starts `node serve.js`, or what it is told to. */
  public OttlaServer(String... command) throws IOException {
    process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    bootstrap = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
  }

  @Override
  public void close() throws IOException {
    process.getOutputStream().close(); // Its input: it ends.
    process.onExit().join();
  }
}
