from recon.io.scans.ct_pd.reader import FORMAT as FORMAT
